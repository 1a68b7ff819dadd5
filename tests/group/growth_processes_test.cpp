// Groups, plans and calls come and go without leaving anything behind. Ranks are processes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>

#include "tests/group/many_groups.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/temporary_directory.hpp"

namespace tokenyard::test {
namespace {

void expect_success(const std::vector<ProcessResult>& results) {
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

TEST(growth_of_processes, hundreds_of_groups_leave_nothing_behind) {
  expect_success(run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    ProcessGrowth growth(1);
    for (int round = 0; round < kGrowthRounds; ++round) {
      use_a_group(exchange, round);
      growth.sample();
    }
    growth.expect_none();
    EXPECT_EQ(count_shared_mappings(), 0);
    EXPECT_EQ(count_shared_memory_files(), 0);
  }));
}

// Two pairs meet over TCP, each at a port of its own, and two in a directory, under a name of their own.
TEST(growth_of_processes, four_groups_of_some_of_the_ranks_live_at_once_and_leave_nothing_behind) {
  const TemporaryDirectory directory;
  const std::array listeners{listen_on_loopback(), listen_on_loopback()};
  RankProcesses processes(kNumWorldRanks, [&](int world_rank) {
    // A group per round, but one rendezvous per pair.
    std::array<std::shared_ptr<Exchange>, kPairs.size()> exchanges;
    const auto exchange_of = [&](int pair, int rank) {
      std::shared_ptr<Exchange>& exchange = exchanges[static_cast<std::size_t>(pair)];
      if (exchange != nullptr) return exchange;
      if (pair < 2) {
        exchange = make_tcp_exchange(rendezvous_at(listeners[static_cast<std::size_t>(pair)], rank, 2));
      } else {
        exchange = make_directory_exchange(directory.path(), rank, 2, "pair" + std::to_string(pair), kAmple);
      }
      return exchange;
    };
    ProcessGrowth growth(2);
    for (int round = 0; round < kGrowthRounds; ++round) {
      use_two_pairs(world_rank, round, exchange_of);
      growth.sample();
    }
    growth.expect_none();
    EXPECT_EQ(count_shared_mappings(), 0);
  });
  for (const TestListener& listener : listeners) close(listener.fd);
  expect_success(processes.wait());
}

TEST(growth_of_processes, two_threads_use_a_plan_each_without_growth) {
  expect_success(run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    constexpr int kNumCalls = 50;  // round trips of each thread
    ProcessGrowth growth(kNumCalls);
    std::barrier quiet(2);
    use_two_plans(exchange, kGrowthRounds, kNumCalls, &quiet, [&] { growth.sample(); });
    growth.expect_none();
  }));
}

}  // namespace
}  // namespace tokenyard::test
