#include "cli/progress.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace tokenyard::cli {
namespace {

// What was written to a terminal, up to `size` bytes of it: it may come in several parts.
std::string read_terminal(int controller, std::size_t size) {
  std::string text(size, '\0');
  std::size_t num_read = 0;
  for (pollfd look{.fd = controller, .events = POLLIN, .revents = 0}; num_read < size && poll(&look, 1, 10'000) == 1;) {
    const ssize_t num_bytes = read(controller, text.data() + num_read, size - num_read);
    if (num_bytes <= 0) break;
    num_read += static_cast<std::size_t>(num_bytes);
  }
  text.resize(num_read);
  return text;
}

TEST(progress, is_silent_where_there_is_no_terminal) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress("work", 10, file);
    progress.advance(10);
  }
  EXPECT_EQ(std::ftell(file), 0);
  std::fclose(file);
}

TEST(progress, rewrites_and_removes_its_line_on_a_terminal) {
  setenv("TERM", "xterm", 1);
  const int controller = posix_openpt(O_RDWR | O_NOCTTY);
  if (controller < 0 || grantpt(controller) != 0 || unlockpt(controller) != 0) GTEST_SKIP() << "no pseudo-terminals here";
  std::FILE* terminal = std::fopen(ptsname(controller), "r+");
  if (terminal == nullptr) GTEST_SKIP() << "no pseudo-terminals here";
  {
    const Progress progress("work", 10, terminal);
  }
  const std::string expected = "\rwork: 0/10 (0 %)\x1b[K\r\x1b[K";
  EXPECT_EQ(read_terminal(controller, expected.size()), expected);
  std::fclose(terminal);
  close(controller);
}

}  // namespace
}  // namespace tokenyard::cli
