#include "tests/support/run_ranks.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

[[noreturn]] void run_child(int rank, const std::function<void(int)>& body) {
  int exit_code = 0;
  try {
    body(rank);
    if (::testing::Test::HasFailure()) exit_code = 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    exit_code = 1;
  }
  std::fflush(nullptr);
  _exit(exit_code);
}

// Whether a rank only heard of a failure from another, or has missed it where the test's ranks meet.
bool is_hearsay(const std::exception_ptr& error) {
  if (error == nullptr) return true;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    const std::string text = known.what();
    return text.find("the group has failed") != std::string::npos || text.find("of the test came") != std::string::npos;
  } catch (...) {
    return false;
  }
}

}  // namespace

void run_thread_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body) {
  auto exchanges = make_thread_exchange(num_ranks);
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(std::move(exchanges[rank]));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // The cause says more than what it did to the other ranks.
  std::stable_partition(errors.begin(), errors.end(), [](const std::exception_ptr& error) { return !is_hearsay(error); });
  for (const std::exception_ptr& error : errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
}

RankProcesses::RankProcesses(int num_ranks, const std::function<void(int)>& body) {
  std::fflush(nullptr);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t child = fork();
    if (child == 0) run_child(rank, body);
    if (child < 0) throw std::runtime_error("fork failed");
    children_.push_back(child);
  }
}

RankProcesses::~RankProcesses() {
  const bool all_reaped = std::all_of(children_.begin(), children_.end(), [](pid_t child) { return child < 0; });
  if (!all_reaped) wait(std::chrono::milliseconds(0));
}

void RankProcesses::send_signal(int rank, int signal_number) {
  if (children_[rank] > 0) kill(children_[rank], signal_number);
}

std::vector<ProcessResult> RankProcesses::wait(std::chrono::milliseconds limit) {
  std::vector<ProcessResult> results(children_.size());
  const auto end = std::chrono::steady_clock::now() + limit;
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    if (children_[rank] < 0) continue;
    int status = 0;
    while (waitpid(children_[rank], &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) kill(children_[rank], SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    children_[rank] = -1;
    if (WIFEXITED(status)) results[rank].exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) results[rank].signal = WTERMSIG(status);
  }
  return results;
}

std::vector<ProcessResult> run_process_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body,
                                             std::chrono::milliseconds limit) {
  const TestListener listener = listen_on_loopback();
  RankProcesses processes(num_ranks, [&](int rank) {
    if (rank != 0) close(listener.fd);
    body(make_tcp_exchange(rendezvous_at(listener, rank, num_ranks)));
  });
  close(listener.fd);
  return processes.wait(limit);
}

}  // namespace tokenyard::test
