#include "cli/product_size.hpp"

#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

// On a GPU that takes a fixed time and so much more per row.
std::int64_t rows_for(double fixed_us, double us_per_row) {
  std::int64_t num_rows = 1024;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t next = next_product_rows(num_rows, fixed_us + us_per_row * static_cast<double>(num_rows));
    if (next == num_rows) return num_rows;
    EXPECT_GT(next, num_rows);
    num_rows = next;
  }
  ADD_FAILURE() << "no end";
  return num_rows;
}

TEST(product_size, rows_are_added_until_the_product_takes_long_enough) {
  for (const double us_per_row : {0.08, 0.2, 1.0}) {
    for (const double fixed_us : {0.0, 10.0, 100.0}) {
      const std::int64_t num_rows = rows_for(fixed_us, us_per_row);
      EXPECT_GE(fixed_us + us_per_row * static_cast<double>(num_rows), kProductMicroseconds);
      EXPECT_EQ(num_rows % kProductRowStep, 0);
    }
  }
}

TEST(product_size, a_product_that_is_long_enough_stays_and_none_grows_for_ever) {
  EXPECT_EQ(next_product_rows(1024, kProductMicroseconds), 1024);
  EXPECT_EQ(next_product_rows(1024, 0), 16 * 1024);  // an impossible time is no reason to go to the bound
  EXPECT_EQ(next_product_rows(kMostProductRows, 1), kMostProductRows);
  EXPECT_EQ(rows_for(1, 1e-9), kMostProductRows);
}

}  // namespace
}  // namespace tokenyard::cli
