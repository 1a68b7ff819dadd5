// The device side of copies.hpp.
#pragma once

#include <cstdint>

#include "kernels/cuda/copies.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {

__device__ inline bool is_copied(const Copies& copies, int word) {
  return ptx::load_acquire_system(copies.words + word) >= copies.number;
}

// By one thread. A failure does not end this wait: nobody may use the memory for something else before copies are over. False
// if the deadline has passed.
static __device__ __noinline__ bool await_copies(const Signals& signals, const Copies& copies, int word, Phase phase) {
  constexpr unsigned kNapNanoseconds = 100;
  const std::uint64_t begin = ptx::global_nanoseconds();
  while (!is_copied(copies, word)) {
    __nanosleep(kNapNanoseconds);
    if (ptx::global_nanoseconds() - begin <= signals.timeout_nanoseconds) continue;
    fail(signals, ErrorCode::kTimeout, phase, signals.rank);
    return false;
  }
  return true;
}

}  // namespace tokenyard::cuda
