// How far the clocks of the ranks stand apart, from when each entered and left the same barriers.
#pragma once

#include <cstdint>
#include <vector>

namespace tokenyard::cli {

// One rank's own clock, in nanoseconds, once per barrier.
struct BarrierTimes {
  std::vector<std::int64_t> entered;
  std::vector<std::int64_t> left;
};

// A rank's clock minus rank 0's: certainly within `uncertainty` of `nanoseconds`.
struct ClockOffset {
  std::int64_t nanoseconds = 0;
  std::int64_t uncertainty = 0;
};

// Nobody leaves a barrier before the last has entered it: that bounds each offset from both sides, and every further barrier
// can only narrow it. All ranks have taken part in the same barriers, at least one.
std::vector<ClockOffset> clock_offsets(const std::vector<BarrierTimes>& by_rank);

}  // namespace tokenyard::cli
