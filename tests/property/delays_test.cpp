// Dispatches and combines with delays before signals, waits and the reuse of slots: whatever the order of events, no row is
// wrong.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/property/run_case.hpp"
#include "tests/support/number_in_environment.hpp"

namespace tokenyard::test {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kNumExchanges = 3'000;
#else
constexpr std::int64_t kNumExchanges = 100'000;
#endif
constexpr int kCallsPerCase = 250;

// TOKENYARD_TEST_EXCHANGES asks for another number.
TEST(Delays, leave_every_row_right) {
  const std::int64_t num_wanted = number_in_environment("TOKENYARD_TEST_EXCHANGES", kNumExchanges);
  const std::uint64_t seed = seed_of(seed_of_tests(), 77);
  std::int64_t num_done = 0;
  for (int index = 0; num_done < num_wanted; ++index) {
    const int num_calls = static_cast<int>(std::min<std::int64_t>(kCallsPerCase, num_wanted));
    const Case random_case = make_random_case(seed, index, {.num_ranks = 2 + index % 3, .num_calls = num_calls});
    const std::string wrong = run_with_threads(random_case);
    ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << ", case " << index << ":\n" << wrong;
    num_done += num_exchanges_of(random_case);
  }
  RecordProperty("exchanges", std::to_string(num_done));
}

}  // namespace
}  // namespace tokenyard::test
