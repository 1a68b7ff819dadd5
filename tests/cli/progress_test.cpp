#include "cli/progress.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>

namespace tokenyard::cli {
namespace {

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
  std::array<char, 256> written{};
  const ssize_t num_bytes = read(controller, written.data(), written.size() - 1);
  ASSERT_GT(num_bytes, 0);
  EXPECT_THAT(std::string(written.data()),
              testing::AllOf(testing::HasSubstr("work: 0/10 (0 %)"), testing::EndsWith("\r\x1b[K")));
  std::fclose(terminal);
  close(controller);
}

}  // namespace
}  // namespace tokenyard::cli
