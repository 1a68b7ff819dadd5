// Runs a function once per rank: as threads of this process, or as child processes that meet over loopback TCP.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "tokenyard/exchange.hpp"

namespace tokenyard::test {

// Runs body(exchange) on num_ranks threads and rethrows the first failure (of the lowest rank) after all have ended.
void run_thread_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body);

struct ProcessResult {
  int exit_code = -1;  // 0: body returned; 1: it threw (the text is on stderr); -1: ended by `signal`
  int signal = 0;
};

// Forks num_ranks children that run body(exchange) each, and waits for all of them. GoogleTest expectations that fail in a
// child count as exit code 1. Children that are still there after `limit` are killed (by id) and reported with signal 9. Call it
// while this process has no other threads.
std::vector<ProcessResult> run_process_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body,
                                             std::chrono::milliseconds limit = std::chrono::seconds(120));

}  // namespace tokenyard::test
