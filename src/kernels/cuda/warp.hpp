// The threads that go together.
#pragma once

namespace tokenyard::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffff;

}  // namespace tokenyard::cuda
