#include "cli/table.hpp"

#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

TEST(table, columns_are_as_wide_as_their_widest_cell) {
  Table table({"name", "rows"});
  table.add_row({"rank 0", "5"});
  table.add_rule();
  table.add_row({"all", "12,345"});
  EXPECT_EQ(table.to_string(1), " name      rows\n rank 0       5\n --------------\n all     12,345\n");
}

TEST(table, several_columns_may_stand_left_and_lines_end_without_blanks) {
  Table table({"a", "bb", "c"}, 2);
  table.add_row({"xxx", "y", "1"});
  table.add_row({"z"});
  EXPECT_EQ(table.to_string(0), "a    bb  c\nxxx  y   1\nz\n");
}

TEST(table, characters_count_rather_than_bytes) {
  Table table({"ü", "1"});
  table.add_row({"u", "2"});
  EXPECT_EQ(table.to_string(0), "ü  1\nu  2\n");
}

TEST(table, numbers_are_grouped_by_thousands) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(with_commas(-1234), "-1,234");
  EXPECT_EQ(with_commas(-999), "-999");
}

TEST(table, bytes_have_binary_units) {
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(14336), "14.0 KiB");
  EXPECT_EQ(human_bytes(std::int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(human_bytes(std::int64_t{1} << 50), "1024.0 TiB");
}

TEST(table, unknown_values_are_dashes) {
  EXPECT_EQ(to_cell(Value()), "-");
  EXPECT_EQ(to_cell(Value(1234)), "1,234");
  EXPECT_EQ(to_cell(Value(12.345)), "12.35");
  EXPECT_EQ(to_cell(Value(0.0)), "0.00");
  EXPECT_EQ(to_cell(Value(0.00123)), "0.0012");
  EXPECT_EQ(to_cell(Value(true)), "yes");
}

}  // namespace
}  // namespace tokenyard::cli
