// Groups, plans and calls come and go without leaving anything behind. Ranks are threads of this process.
#include <gtest/gtest.h>

#include <barrier>

#include "tests/group/many_groups.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

TEST(growth, hundreds_of_groups_leave_nothing_behind) {
  ProcessGrowth growth(3);
  for (int round = 0; round < kGrowthRounds; ++round) {
    run_thread_ranks(3, [round](std::shared_ptr<Exchange> exchange) { use_a_group(exchange, round); });
    growth.sample();
  }
  growth.expect_none();
  EXPECT_EQ(count_shared_mappings(), 0);
  EXPECT_EQ(count_shared_memory_files(), 0);
}

TEST(growth, four_groups_of_some_of_the_ranks_live_at_once_and_leave_nothing_behind) {
  ProcessGrowth growth(2 * static_cast<int>(kPairs.size()));
  for (int round = 0; round < kGrowthRounds; ++round) {
    std::vector<std::vector<std::shared_ptr<Exchange>>> exchanges;
    for (std::size_t pair = 0; pair < kPairs.size(); ++pair) exchanges.push_back(make_thread_exchange(2));
    run_ranks(kNumWorldRanks, [&](int world_rank) {
      use_two_pairs(world_rank, round, [&](int pair, int rank) { return exchanges[pair][rank]; });
    });
    exchanges.clear();
    growth.sample();
  }
  growth.expect_none();
  EXPECT_EQ(count_shared_mappings(), 0);
}

TEST(growth, two_threads_use_a_plan_each_without_growth) {
  constexpr int kNumCalls = 50;  // round trips of each thread
  ProcessGrowth growth(2 * kNumCalls);
  std::barrier quiet(2 * 2);
  run_thread_ranks(2, [&](std::shared_ptr<Exchange> exchange) {
    const bool samples = exchange->rank() == 0;
    use_two_plans(exchange, kGrowthRounds, kNumCalls, &quiet, [&] {
      if (samples) growth.sample();
    });
  });
  growth.expect_none();
}

}  // namespace
}  // namespace tokenyard::test
