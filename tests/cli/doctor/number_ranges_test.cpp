#include "cli/doctor/number_ranges.hpp"

#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

TEST(number_ranges, neighbours_become_ranges) {
  EXPECT_EQ(to_ranges({}), "");
  EXPECT_EQ(to_ranges({4}), "4");
  EXPECT_EQ(to_ranges({0, 1}), "0-1");
  EXPECT_EQ(to_ranges({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
}

}  // namespace
}  // namespace tokenyard::cli
