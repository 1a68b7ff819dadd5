#include "exchange/rank_list.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tokenyard {
namespace {

TEST(rank_list, reads_well) {
  EXPECT_EQ(list_ranks({}), "no rank");
  EXPECT_EQ(list_ranks(std::vector{3}), "rank 3");
  EXPECT_EQ(list_ranks(std::vector{3, 4}), "ranks 3, 4");
  EXPECT_EQ(list_ranks(std::vector{0, 1, 2, 3}), "ranks 0-3");
  EXPECT_EQ(list_ranks(std::vector{1, 4, 5, 6, 7, 9, 10}), "ranks 1, 4-7, 9, 10");
}

TEST(rank_list, cuts_a_long_list_and_counts_the_rest) {
  std::vector<int> even;
  for (int rank = 0; rank < 200; rank += 2) even.push_back(rank);
  EXPECT_THAT(list_ranks(even), testing::EndsWith(", 46 and 76 more"));
}

}  // namespace
}  // namespace tokenyard
