// Processes that this one has forked, and answers for.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <vector>

namespace tokenyard::cli {

// While one of these exists, SIGINT, SIGTERM and SIGHUP are blocked in this thread and taken by wait(). The destructor ends and
// reaps every child that is left.
class ChildProcesses {
 public:
  // `grace`: how long the others may go on once a child has failed.
  explicit ChildProcesses(std::chrono::milliseconds grace);
  ~ChildProcesses();
  ChildProcesses(const ChildProcesses&) = delete;
  ChildProcesses& operator=(const ChildProcesses&) = delete;

  // Forks a child that runs `work` and exits with its result. Only while this process has a single thread.
  void start(const std::function<int()>& work);

  // Waits until all children have ended. Returns their exit codes in the order of their start; 128 + s for one that signal s
  // killed. After SIGINT, SIGTERM or SIGHUP the children are told to end, and every code is 128 + that signal.
  std::vector<int> wait();

 private:
  using Clock = std::chrono::steady_clock;

  struct Child {
    pid_t process = -1;
    bool running = true;
    int exit_code = 0;
  };

  void reap();
  void tell_all(int signal_number);
  bool any_running() const;
  void end_all();

  std::chrono::milliseconds grace_;
  std::vector<Child> children_;
  bool told_to_end_ = false;  // by this process: their deaths are no news then
  sigset_t taken_signals_;
  sigset_t old_mask_;
};

}  // namespace tokenyard::cli
