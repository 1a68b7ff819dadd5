#include "cli/doctor/clock_offsets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace tokenyard::cli {
namespace {

TEST(clock_offsets, the_true_offset_lies_within_the_uncertainty) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto draw = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random);
  };
  for (int round = 0; round < 1000; ++round) {
    const auto num_ranks = static_cast<std::size_t>(draw(1, 6));
    std::vector<std::int64_t> clocks(num_ranks);  // minus the true time
    for (std::int64_t& clock : clocks) clock = draw(-1'000'000'000, 1'000'000'000);
    std::vector<BarrierTimes> times(num_ranks);
    std::int64_t true_time = 0;
    for (int barrier = 0; barrier < 5; ++barrier) {
      std::int64_t last_entered = 0;
      for (std::size_t rank = 0; rank < num_ranks; ++rank) {
        const std::int64_t entered = true_time + draw(0, 500'000);
        last_entered = std::max(last_entered, entered);
        times[rank].entered.push_back(entered + clocks[rank]);
      }
      for (std::size_t rank = 0; rank < num_ranks; ++rank) {
        const std::int64_t left = last_entered + draw(0, 500'000);
        true_time = std::max(true_time, left);
        times[rank].left.push_back(left + clocks[rank]);
      }
    }
    const std::vector<ClockOffset> offsets = clock_offsets(times);
    ASSERT_EQ(offsets.size(), num_ranks);
    for (std::size_t rank = 0; rank < num_ranks; ++rank) {
      const std::int64_t wanted = clocks[rank] - clocks[0];
      EXPECT_LE(std::abs(offsets[rank].nanoseconds - wanted), offsets[rank].uncertainty + 1);
      EXPECT_LE(offsets[rank].uncertainty, 1'000'000) << "no wider than a barrier takes";
    }
    EXPECT_EQ(offsets[0].nanoseconds, 0);
  }
}

}  // namespace
}  // namespace tokenyard::cli
