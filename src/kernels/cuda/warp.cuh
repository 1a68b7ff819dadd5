// What the lanes of a warp find out together.
#pragma once

#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

// The sum of `value` over the lanes up to this one; by all lanes.
template <class T>
__device__ T sum_up_to_lane(T value, int lane) {
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

}  // namespace tokenyard::cuda
