#include "cli/bench_expectation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

using testing::ElementsAre;

// Two ranks of two tokens each, four experts, two of them on each rank.
RoutingChoice make_choice() {
  RoutingChoice choice{.shape = {.num_ranks = 2, .num_tokens = 2, .num_experts = 4, .top_k = 2, .seed = 0},
                       .topk_idx = {0, 1, 2, -1, 3, 0, 1, 1},
                       .topk_weights = std::vector<float>(8, 1.0F)};
  return choice;
}

Shape make_shape(Layout layout) {
  Shape shape;
  shape.num_experts = 4;
  shape.top_k = 2;
  shape.layout = layout;
  return shape;
}

std::vector<std::pair<int, int>> sources_of(const ExpectedRank& expected) {
  std::vector<std::pair<int, int>> sources;
  for (const ExpectedRow& row : expected.rows) sources.emplace_back(row.source, row.token);
  return sources;
}

std::vector<std::int64_t> positions_of(const ExpectedRank& expected) {
  std::vector<std::int64_t> positions;
  for (const ExpectedPair& pair : expected.pairs) positions.push_back(pair.position);
  return positions;
}

TEST(bench_expectation, a_token_comes_once_to_a_rank_in_source_and_token_order) {
  const ExpectedRank first = expect_rank(make_choice(), make_shape(Layout::kCompact), 0);
  EXPECT_THAT(sources_of(first), ElementsAre(std::pair(0, 0), std::pair(1, 0), std::pair(1, 1)));
  EXPECT_EQ(first.num_expanded_rows, 3);
  EXPECT_EQ(first.rows_from(0), 1);
  EXPECT_EQ(first.rows_from(1), 2);
  const ExpectedRank second = expect_rank(make_choice(), make_shape(Layout::kCompact), 1);
  EXPECT_THAT(sources_of(second), ElementsAre(std::pair(0, 1), std::pair(1, 0)));
}

TEST(bench_expectation, groups_are_aligned_and_duplicates_kept) {
  Shape shape = make_shape(Layout::kExpertContiguous);
  shape.expert_alignment = 4;
  const ExpectedRank first = expect_rank(make_choice(), shape, 0);
  EXPECT_THAT(first.expert_counts, ElementsAre(2, 3));
  EXPECT_THAT(first.expert_offsets, ElementsAre(0, 4, 8));
  EXPECT_THAT(positions_of(first), ElementsAre(0, 4, 1, 5, 6));
  EXPECT_EQ(first.num_expanded_rows, 8);
}

TEST(bench_expectation, experts_without_room_lose_their_last_rows) {
  Shape shape = make_shape(Layout::kExpertPadded);
  shape.expert_capacity = 2;
  const ExpectedRank first = expect_rank(make_choice(), shape, 0);
  EXPECT_THAT(first.expert_counts, ElementsAre(2, 2));
  EXPECT_THAT(positions_of(first), ElementsAre(0, 2, 1, 3, -1));
  EXPECT_EQ(first.num_expanded_rows, 4);
}

TEST(bench_expectation, slots_without_room_lose_their_last_rows) {
  Shape shape = make_shape(Layout::kCompact);
  shape.recv_capacity = 2;
  EXPECT_EQ(expect_rank(make_choice(), shape, 0).rows.size(), 3U);  // the slot grows
  shape.overflow = Overflow::kDrop;
  const ExpectedRank first = expect_rank(make_choice(), shape, 0);
  EXPECT_THAT(sources_of(first), ElementsAre(std::pair(0, 0), std::pair(1, 0)));
  EXPECT_EQ(first.pairs.size(), 3U);
}

TEST(bench_expectation, the_last_ranks_may_have_fewer_experts_or_none) {
  RoutingChoice choice = make_choice();
  choice.shape.num_ranks = 3;
  choice.topk_idx.resize(12, -1);
  EXPECT_EQ(expect_rank(choice, make_shape(Layout::kCompact), 2).num_local_experts, 0);
  EXPECT_EQ(expect_rank(choice, make_shape(Layout::kCompact), 1).num_local_experts, 2);
}

TEST(bench_expectation, the_busiest_expert_is_found) { EXPECT_EQ(busiest_expert_rows(make_choice()), 3); }

}  // namespace
}  // namespace tokenyard::cli
