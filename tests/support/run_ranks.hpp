// Runs a function once per rank: as threads of this process, or as child processes that meet over loopback TCP.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "tests/support/ample_time.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard::test {

// Runs body(exchange) on num_ranks threads and rethrows the first failure (of the lowest rank) after all have ended.
void run_thread_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body);

struct ProcessResult {
  int exit_code = -1;  // 0: body returned; 1: it threw (the text is on stderr); -1: ended by `signal`
  int signal = 0;
};

// Ranks as child processes that a test may stop, continue and kill.
class RankProcesses {
 public:
  // Forks num_ranks children that run body(rank) each. GoogleTest expectations that fail in a child count as exit code 1. Call
  // it while this process has no other threads.
  RankProcesses(int num_ranks, const std::function<void(int rank)>& body);
  ~RankProcesses();  // kills the children that are left
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  pid_t id(int rank) const { return children_[rank]; }
  void send_signal(int rank, int signal_number);

  // Waits for all children. Those that are still there after `limit` are killed (by id) and reported with signal 9.
  std::vector<ProcessResult> wait(std::chrono::milliseconds limit = 4 * ample_time());

 private:
  std::vector<pid_t> children_;  // -1 once reaped
};

// Runs body(exchange) in num_ranks RankProcesses and waits for all of them.
std::vector<ProcessResult> run_process_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body,
                                             std::chrono::milliseconds limit = 4 * ample_time());

}  // namespace tokenyard::test
