#include "engine/overlap.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

TEST(overlap, is_told_from_neighbourhood) {
  std::array<float, 64> memory{};
  const ConstTensorView front = tensor(memory.data(), {4, 8});
  EXPECT_TRUE(overlap(front, front));
  EXPECT_TRUE(overlap(front, tensor(memory.data() + 31, {1, 1})));
  EXPECT_FALSE(overlap(front, tensor(memory.data() + 32, {4, 8})));
  EXPECT_FALSE(overlap(tensor(memory.data() + 32, {4, 8}), front));
}

TEST(overlap, counts_what_a_tensor_spans) {
  std::array<float, 64> memory{};
  // Two columns of eight.
  const ConstTensorView columns(memory.data(), DataType::kFloat32, {8, 2}, {1, 16});
  EXPECT_TRUE(overlap(columns, tensor(memory.data() + 10, {1, 2}))) << "between the columns";
  EXPECT_TRUE(overlap(columns, tensor(memory.data() + 23, {1, 1})));
  EXPECT_FALSE(overlap(columns, tensor(memory.data() + 24, {1, 1})));
}

TEST(overlap, knows_tensors_that_run_backwards) {
  std::array<float, 64> memory{};
  // The rows of the middle, last row first.
  const ConstTensorView flipped(memory.data() + 40, DataType::kFloat32, {4, 8}, {-8, 1});
  EXPECT_TRUE(overlap(flipped, tensor(memory.data() + 16, {1, 1})));
  EXPECT_TRUE(overlap(tensor(memory.data() + 47, {1, 1}), flipped));
  EXPECT_FALSE(overlap(flipped, tensor(memory.data(), {2, 8})));
  EXPECT_FALSE(overlap(flipped, tensor(memory.data() + 48, {2, 8})));
}

TEST(overlap, needs_elements) {
  std::array<float, 8> memory{};
  const ConstTensorView whole = tensor(memory.data(), {1, 8});
  EXPECT_FALSE(overlap(whole, ConstTensorView()));
  EXPECT_FALSE(overlap(whole, tensor(memory.data() + 2, {0, 8})));
}

TEST(overlap, of_a_sum_with_the_rows_it_is_made_of_does_no_harm) {
  run_small_ranks(3, [](SmallRank& rank) {
    for (const bool in_slot : {false, true}) {
      const Received received = rank.plan.dispatch(rank.input.dispatch());
      TensorView rows = received.lane(0);
      std::vector<float> elsewhere(rows.num_elements());
      std::memcpy(elsewhere.data(), rows.data, elsewhere.size() * sizeof(float));
      if (!in_slot) rows.data = elsewhere.data();
      SmallOutput output(rank.input);
      const Routing routing = received.routing();
      CombineArgs args = output.combine(routing, rows);
      args.output.data = rows.data;
      rank.plan.combine(args);
      std::memcpy(output.values.data(), rows.data, output.values.size() * sizeof(float));
      output.expect_sum(rank.input, rank.num_ranks);
    }
  });
}

}  // namespace
}  // namespace tokenyard::test
