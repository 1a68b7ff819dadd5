#include "layout/carried_rows.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace tokenyard {
namespace {

constexpr int kNumChunks = 4;
constexpr int kNumFirst = 2;

TEST(carried_rows, every_chunk_of_every_other_rank_is_carried_once_and_in_order) {
  for (int num_ranks = 1; num_ranks <= 9; ++num_ranks) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      std::vector<int> num_carried(num_ranks, 0);
      for (const CarryStep& step : carry_order(rank, num_ranks, kNumChunks, kNumFirst)) {
        EXPECT_EQ(step.first_chunk, num_carried[step.peer]);
        EXPECT_LT(step.first_chunk, step.end_chunk);
        num_carried[step.peer] = step.end_chunk;
      }
      for (int peer = 0; peer < num_ranks; ++peer) EXPECT_EQ(num_carried[peer], peer == rank ? 0 : kNumChunks);
    }
  }
}

TEST(carried_rows, at_no_step_two_ranks_write_to_the_same_one) {
  for (int num_ranks = 2; num_ranks <= 9; ++num_ranks) {
    const std::size_t num_steps = carry_order(0, num_ranks, kNumChunks, kNumFirst).size();
    for (std::size_t step = 0; step < num_steps; ++step) {
      std::set<int> peers;
      for (int rank = 0; rank < num_ranks; ++rank) peers.insert(carry_order(rank, num_ranks, kNumChunks, kNumFirst)[step].peer);
      EXPECT_EQ(peers.size(), num_ranks);
    }
  }
}

TEST(carried_rows, the_window_holds_the_most_that_a_rank_can_send) {
  PlanDimensions dimensions{};
  dimensions.num_ranks = 3;
  dimensions.max_fan_out = 3;
  dimensions.max_tokens = 5;
  const CarriedLayout layout = carried_layout(dimensions, 48);
  EXPECT_GE(layout.rows, Chunks::kMaxChunks * 3 * sizeof(std::uint64_t));
  EXPECT_EQ(layout.rows % 16, 0);
  EXPECT_EQ(layout.num_bytes - layout.rows, 5 * 2 * 48);
}

}  // namespace
}  // namespace tokenyard
