#include "cli/placement_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(placement_file, a_line_is_a_rank) {
  const PlacementTable table = parse_placement("# experts of two nodes\n0 1, 2\n\n3,0\n", "table");
  EXPECT_THAT(table.experts_of, ElementsAre(ElementsAre(0, 1, 2), IsEmpty(), ElementsAre(3, 0)));
}

TEST(placement_file, what_is_no_number_is_named_with_its_line) {
  test::expect_error([] { parse_placement("0 1\n2 three\n", "table"); }, ErrorCode::kInvalidArgument,
                     "table line 2: \"three\"");
  test::expect_error([] { parse_placement("99999999999\n", "table"); }, ErrorCode::kInvalidArgument, "table line 1");
}

}  // namespace
}  // namespace tokenyard::cli
