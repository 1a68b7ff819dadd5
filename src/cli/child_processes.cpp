#include "cli/child_processes.hpp"

#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <system_error>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeToEnd{2'000};   // between the request to end and SIGKILL
constexpr std::chrono::milliseconds kLookInterval{500};  // a child's end wakes the wait; this is for deadlines

}  // namespace

ChildProcesses::ChildProcesses(std::chrono::milliseconds grace) : grace_(grace) {
  sigemptyset(&taken_signals_);
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&taken_signals_, signal_number);
  pthread_sigmask(SIG_BLOCK, &taken_signals_, &old_mask_);
}

ChildProcesses::~ChildProcesses() {
  end_all();
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void ChildProcesses::start(const std::function<int()>& work) {
  std::fflush(nullptr);  // or the child would write this process's unwritten output once more
  const pid_t parent = getpid();
  const pid_t process = fork();
  if (process < 0) {
    const int number = errno;
    fail(ErrorCode::kSystem, "cannot start process {} of this command: {}; ulimit -u limits their number", children_.size() + 1,
         std::generic_category().message(number));
  }
  if (process > 0) {
    children_.push_back({.process = process});
    return;
  }
  children_.clear();  // they are the parent's
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // the parent died before the line above
  std::exit(work());
}

std::vector<int> ChildProcesses::wait() {
  std::optional<int> stop_signal;
  std::optional<Clock::time_point> deadline;  // set once something went wrong
  reap();
  while (any_running()) {
    const bool has_failed = std::any_of(children_.begin(), children_.end(),
                                        [](const Child& child) { return !child.running && child.exit_code != 0; });
    if (has_failed && !deadline) deadline = Clock::now() + grace_;
    if (deadline && Clock::now() >= *deadline) {
      if (!told_to_end_) {
        fmt::print(stderr, "tokenyard: a rank failed {} ms ago and others still run: ending them\n", grace_.count());
        tell_all(SIGTERM);
      } else {
        tell_all(SIGKILL);
      }
      deadline = Clock::now() + kTimeToEnd;
    }
    const auto interval = std::chrono::duration_cast<std::chrono::nanoseconds>(kLookInterval);
    const timespec pause{0, static_cast<long>(interval.count())};
    const int signal_number = sigtimedwait(&taken_signals_, nullptr, &pause);
    if (signal_number > 0 && signal_number != SIGCHLD && !stop_signal) {
      stop_signal = signal_number;
      tell_all(SIGTERM);
      deadline = Clock::now() + kTimeToEnd;
    }
    reap();
  }

  std::vector<int> exit_codes;
  for (const Child& child : children_) exit_codes.push_back(stop_signal ? 128 + *stop_signal : child.exit_code);
  return exit_codes;
}

void ChildProcesses::reap() {
  for (std::size_t i = 0; i < children_.size(); ++i) {
    Child& child = children_[i];
    int status = 0;
    if (!child.running || waitpid(child.process, &status, WNOHANG) != child.process) continue;
    child.running = false;
    child.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (WIFSIGNALED(status) && !told_to_end_) {
      fmt::print(stderr, "tokenyard: rank {} (process {}) was killed by signal {} ({})\n", i, child.process, WTERMSIG(status),
                 sigdescr_np(WTERMSIG(status)));
    }
  }
}

void ChildProcesses::tell_all(int signal_number) {
  told_to_end_ = true;
  for (const Child& child : children_) {
    if (child.running) kill(child.process, signal_number);
  }
}

bool ChildProcesses::any_running() const {
  return std::any_of(children_.begin(), children_.end(), [](const Child& child) { return child.running; });
}

void ChildProcesses::end_all() {
  tell_all(SIGKILL);
  for (Child& child : children_) {
    if (child.running) waitpid(child.process, nullptr, 0);
    child.running = false;
  }
}

}  // namespace tokenyard::cli
