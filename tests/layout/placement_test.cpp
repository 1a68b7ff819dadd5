#include "layout/placement.hpp"

#include <gtest/gtest.h>

#include <set>

namespace tokenyard::test {
namespace {

std::vector<int> num_local_experts(const Placement& placement, int num_ranks) {
  std::vector<int> counts;
  for (int rank = 0; rank < num_ranks; ++rank) counts.push_back(placement.num_local_experts(rank));
  return counts;
}

TEST(placement, experts_lie_contiguously_where_no_table_is_given) {
  EXPECT_EQ(num_local_experts(Placement({}, 8, 4), 4), std::vector<int>({2, 2, 2, 2}));
  EXPECT_EQ(num_local_experts(Placement({}, 10, 4), 4), std::vector<int>({3, 3, 3, 1}));
  EXPECT_EQ(num_local_experts(Placement({}, 3, 5), 5), std::vector<int>({1, 1, 1, 0, 0}));
  EXPECT_EQ(num_local_experts(Placement({}, 9, 8), 8), std::vector<int>({2, 2, 2, 2, 1, 0, 0, 0}));
  const Placement placement({}, 10, 4);
  EXPECT_EQ(placement.max_local_experts(), 3);
  for (int expert = 0; expert < 10; ++expert) {
    ASSERT_EQ(placement.replicas(expert).size(), 1);
    EXPECT_EQ(placement.pick(expert, 2, 77).rank, expert / 3);
    EXPECT_EQ(placement.pick(expert, 2, 77).local_idx, expert % 3);
  }
}

TEST(placement, a_table_gives_experts_their_local_numbers_in_its_order) {
  const Placement placement({{{3, 0}, {2, 1}}}, 4, 2);
  EXPECT_EQ(placement.pick(3, 0, 0).local_idx, 0);
  EXPECT_EQ(placement.pick(0, 0, 0).local_idx, 1);
  EXPECT_EQ(placement.pick(2, 0, 0).rank, 1);
  EXPECT_EQ(placement.pick(1, 0, 0).local_idx, 1);
}

TEST(placement, a_source_prefers_its_own_replica_and_others_take_turns) {
  const Placement placement({{{0}, {0, 1}, {1, 0}, {2}}}, 3, 4);
  EXPECT_EQ(placement.replicas(0).size(), 3);
  for (std::int64_t token = 0; token < 6; ++token) {
    EXPECT_EQ(placement.pick(0, 0, token).rank, 0);
    EXPECT_EQ(placement.pick(0, 1, token).rank, 1);
    EXPECT_EQ(placement.pick(0, 2, token).rank, 2);
    EXPECT_EQ(placement.pick(0, 2, token).local_idx, 1);
  }
  std::multiset<int> ranks;
  for (std::int64_t token = 0; token < 6; ++token) ranks.insert(placement.pick(0, 3, token).rank);
  for (const int rank : {0, 1, 2}) EXPECT_EQ(ranks.count(rank), 2) << "six tokens of rank 3 take turns over three replicas";
}

TEST(placement, the_choice_depends_on_expert_source_and_token_alone) {
  const PlacementTable table{{{0, 1}, {1, 0}, {2}}};
  const Placement first(table, 3, 3);
  const Placement second(table, 3, 3);
  for (int expert = 0; expert < 3; ++expert) {
    for (std::int64_t token = 0; token < 50; ++token) {
      EXPECT_EQ(first.pick(expert, 2, token).rank, second.pick(expert, 2, token).rank);
      EXPECT_EQ(first.pick(expert, 2, token).local_idx, second.pick(expert, 2, token).local_idx);
    }
  }
}

TEST(placement, fingerprints_tell_placements_apart) {
  const auto fingerprint = [](const PlacementTable& table, int num_experts, int num_ranks) {
    return Placement(table, num_experts, num_ranks).fingerprint();
  };
  EXPECT_EQ(fingerprint({}, 4, 2), fingerprint({{{0, 1}, {2, 3}}}, 4, 2)) << "the same places, however they were given";
  std::set<std::uint64_t> fingerprints{
      fingerprint({}, 4, 2),
      fingerprint({}, 5, 2),
      fingerprint({}, 4, 4),
      fingerprint({{{1, 0}, {2, 3}}}, 4, 2),
      fingerprint({{{0, 2}, {1, 3}}}, 4, 2),
      fingerprint({{{0, 1}, {2, 3, 0}}}, 4, 2),
      fingerprint({{{0, 1, 2, 3}, {}}}, 4, 2),
      fingerprint({{{}, {0, 1, 2, 3}}}, 4, 2),
  };
  EXPECT_EQ(fingerprints.size(), 8);
}

}  // namespace
}  // namespace tokenyard::test
