#include "cli/statistics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace tokenyard::cli {
namespace {

TEST(statistics, percentiles_are_values_that_occurred) {
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 50), 3);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 50), 2);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 51), 3);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 99), 4);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0.001), 1);
  EXPECT_EQ(percentile({7}, 50), 7);
}

TEST(statistics, the_99th_of_a_thousand_leaves_ten_above) {
  std::vector<double> values(1000);
  std::iota(values.rbegin(), values.rend(), 1.0);
  const Summary summary = summarize(values);
  EXPECT_EQ(summary.p50, 500);
  EXPECT_EQ(summary.p99, 990);
  EXPECT_EQ(summary.max, 1000);
}

TEST(statistics, the_slowest_rank_of_each_iteration_counts) {
  EXPECT_THAT(slowest_of_ranks({{1, 5, 2}, {3, 4, 2}}), testing::ElementsAre(3, 5, 2));
}

}  // namespace
}  // namespace tokenyard::cli
