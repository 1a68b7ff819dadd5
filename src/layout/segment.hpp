// The rows that one rank sends to another in a call, cut into segments: each is announced by a word of its own as soon as it is
// there, so that its rows can be used while later ones are still on their way.
#pragma once

#include <cstdint>

namespace tokenyard {

inline constexpr std::int64_t kSegmentRows = 64;

constexpr std::int64_t num_segments(std::int64_t num_rows) { return (num_rows + kSegmentRows - 1) / kSegmentRows; }

}  // namespace tokenyard
