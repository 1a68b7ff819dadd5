// The device side of copy_word.hpp.
#pragma once

#include <cstdint>

#include "kernels/cuda/copy_word.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {

// By one thread. A failure does not end this wait: nobody may use the memory for something else before copies are over. False
// if the deadline has passed, or there are no copies.
static __device__ __noinline__ bool await_copies(const Signals& signals, const CopyWord& copies, Phase phase) {
  constexpr unsigned kNapNanoseconds = 100;
  const std::uint64_t begin = ptx::global_nanoseconds();
  for (;;) {
    const std::uint64_t seen = ptx::load_acquire_system(copies.word);
    if (seen >= copies.number) return seen != kNoCopies;
    __nanosleep(kNapNanoseconds);
    if (ptx::global_nanoseconds() - begin <= signals.timeout_nanoseconds) continue;
    fail(signals, ErrorCode::kTimeout, phase, signals.rank);
    return false;
  }
}

}  // namespace tokenyard::cuda
