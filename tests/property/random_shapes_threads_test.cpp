// Random shapes, with ranks as threads: nothing that a call promises may differ from the reference.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/property/run_case.hpp"

namespace tokenyard::test {
namespace {

TEST(RandomShapes, thread_ranks_agree_with_the_reference) {
  const int num_cases = num_shapes_of(1800);
  const std::uint64_t seed = seed_of_tests();
  int num_failed = 0;
  for (int index = 0; index < num_cases && num_failed < 3; ++index) {
    const std::string wrong = run_with_threads(make_random_case(seed, index));
    if (wrong.empty()) continue;
    ++num_failed;
    ADD_FAILURE() << "case " << index << " of TOKENYARD_TEST_SEED=" << seed << ":\n" << wrong;
  }
}

}  // namespace
}  // namespace tokenyard::test
