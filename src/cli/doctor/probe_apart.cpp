#include "cli/doctor/probe_apart.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <system_error>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeToEnd{5'000};  // after SIGKILL; a process stuck in a driver may not even end then
constexpr std::chrono::milliseconds kLookInterval{5};

[[noreturn]] void answer(const std::function<Findings()>& probe, int pipe_end) {
  // What the probed code prints would disturb the page.
  const FileDescriptor nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  dup2(nowhere.get(), STDOUT_FILENO);
  dup2(nowhere.get(), STDERR_FILENO);
  std::string text;
  try {
    text = to_text(probe());
  } catch (const std::exception&) {
    _exit(1);
  }
  for (std::size_t num_written = 0; num_written < text.size();) {
    const ssize_t num_bytes = write(pipe_end, text.data() + num_written, text.size() - num_written);
    if (num_bytes <= 0) _exit(1);
    num_written += static_cast<std::size_t>(num_bytes);
  }
  _exit(0);  // without the exit handlers of this program, nor of what the probe has loaded
}

// Everything until the pipe's other end is closed; returns false if the deadline comes first.
bool read_all(int pipe_end, const Deadline& deadline, std::string& text) {
  while (!deadline.passed()) {
    pollfd entry{.fd = pipe_end, .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, static_cast<int>(deadline.remaining().count())) <= 0) continue;
    std::array<char, 4096> buffer;
    const ssize_t num_bytes = read(pipe_end, buffer.data(), buffer.size());
    if (num_bytes == 0) return true;
    if (num_bytes > 0) text.append(buffer.data(), static_cast<std::size_t>(num_bytes));
  }
  return false;
}

// How a process that has closed its pipe, or was killed, ended.
std::string wait_for_end(pid_t process) {
  const Deadline deadline(kTimeToEnd);
  int status = 0;
  while (waitpid(process, &status, WNOHANG) != process) {
    if (deadline.passed()) return "its process does not end";
    usleep(static_cast<useconds_t>(std::chrono::microseconds(kLookInterval).count()));
  }
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {} ({})", WTERMSIG(status), sigdescr_np(WTERMSIG(status)));
  return WEXITSTATUS(status) == 0 ? "" : "ended without an answer";
}

}  // namespace

Findings probe_apart(const std::function<Findings()>& probe, std::chrono::milliseconds timeout, const FindingsOfLoss& if_lost) {
  std::array<int, 2> ends{-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return if_lost(std::generic_category().message(errno));
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  std::fflush(nullptr);
  const pid_t process = fork();
  if (process < 0) return if_lost("no process for it: " + std::generic_category().message(errno));
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    answer(probe, write_end.get());
  }
  write_end = FileDescriptor();
  std::string text;
  if (!read_all(read_end.get(), Deadline(timeout), text)) {
    kill(process, SIGKILL);
    wait_for_end(process);
    return if_lost(fmt::format("no answer within {} ms", timeout.count()));
  }
  const std::string end = wait_for_end(process);
  if (!end.empty()) return if_lost(end);
  return from_text(text);
}

}  // namespace tokenyard::cli
