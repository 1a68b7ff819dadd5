#include "cli/doctor/clock_offsets.hpp"

#include <algorithm>
#include <limits>

namespace tokenyard::cli {

std::vector<ClockOffset> clock_offsets(const std::vector<BarrierTimes>& by_rank) {
  const BarrierTimes& zero = by_rank.at(0);
  std::vector<ClockOffset> offsets;
  for (const BarrierTimes& rank : by_rank) {
    std::int64_t least = std::numeric_limits<std::int64_t>::min();
    std::int64_t most = std::numeric_limits<std::int64_t>::max();
    for (std::size_t barrier = 0; barrier < zero.entered.size(); ++barrier) {
      least = std::max(least, rank.entered[barrier] - zero.left[barrier]);
      most = std::min(most, rank.left[barrier] - zero.entered[barrier]);
    }
    offsets.push_back({.nanoseconds = least + (most - least) / 2, .uncertainty = (most - least) / 2});
  }
  offsets[0] = {};
  return offsets;
}

}  // namespace tokenyard::cli
