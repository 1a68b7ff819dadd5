// Ranks that are masked at random moments: nothing of them is delivered afterwards, and nothing of the others is lost.
#include <gtest/gtest.h>

#include "tests/property/masked_case.hpp"
#include "tests/property/run_case.hpp"

namespace tokenyard::test {
namespace {

TEST(MaskedCases, go_on_without_the_masked_ranks) {
  const int num_cases = num_shapes_to_run(400);
  for (int index = 0; index < num_cases; ++index) {
    const std::uint64_t seed = seed_of(seed_of_tests(), index);
    EXPECT_EQ(run_masked_case(seed), "") << "TOKENYARD_TEST_SEED=" << seed_of_tests() << ", case " << index;
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tokenyard::test
