#include "cli/subprocess.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/deadline.hpp"
#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeToEnd{2'000};
constexpr std::chrono::milliseconds kLookInterval{20};
constexpr int kCouldNotStart = 127;

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) {
      fail(ErrorCode::kSystem, "cannot make a pipe: {}", std::generic_category().message(errno));
    }
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_end(std::size_t which) {
    if (ends_[which] >= 0) close(std::exchange(ends_[which], -1));
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

// Appends what can be read without waiting. False at the end.
bool read_available(int descriptor, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t num_bytes = read(descriptor, buffer.data(), buffer.size());
  if (num_bytes > 0) text.append(buffer.data(), static_cast<std::size_t>(num_bytes));
  return num_bytes > 0 || (num_bytes < 0 && errno == EINTR);
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds timeout) {
  Pipe output;
  Pipe errors;
  Pipe start_failure;  // carries errno where exec fails, and closes by itself where it succeeds
  // Everything that allocates happens before the fork: other threads may hold the allocator's locks.
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  const pid_t process = fork();
  if (process < 0) fail(ErrorCode::kSystem, "cannot start {}: {}", arguments.at(0), std::generic_category().message(errno));
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(output.write_end(), STDOUT_FILENO);
    dup2(errors.write_end(), STDERR_FILENO);
    execvp(pointers[0], pointers.data());
    const int number = errno;
    [[maybe_unused]] const ssize_t written = write(start_failure.write_end(), &number, sizeof(number));
    _exit(kCouldNotStart);
  }
  for (Pipe* pipe : {&output, &errors, &start_failure}) pipe->close_end(1);

  ProgramResult result;
  Deadline deadline(timeout);
  bool output_open = true;
  bool errors_open = true;
  int status = 0;
  bool is_running = true;
  while (is_running || output_open || errors_open) {
    std::array<pollfd, 2> descriptors{pollfd{output_open ? output.read_end() : -1, POLLIN, 0},
                                      pollfd{errors_open ? errors.read_end() : -1, POLLIN, 0}};
    poll(descriptors.data(), descriptors.size(), static_cast<int>(kLookInterval.count()));
    if (descriptors[0].revents != 0) output_open = read_available(output.read_end(), result.output);
    if (descriptors[1].revents != 0) errors_open = read_available(errors.read_end(), result.errors);
    if (is_running && waitpid(process, &status, WNOHANG) == process) is_running = false;
    if (deadline.passed()) {
      // Descendants that keep the pipes open are not waited for any longer either.
      if (!is_running && result.timed_out) break;
      if (is_running) kill(process, result.timed_out ? SIGKILL : SIGTERM);
      result.timed_out = true;
      deadline = Deadline(kTimeToEnd);
    }
  }
  int number = 0;
  if (read(start_failure.read_end(), &number, sizeof(number)) == sizeof(number)) {
    fail(ErrorCode::kSystem, "cannot start {}: {}", arguments[0], std::generic_category().message(number));
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace tokenyard::cli
