// The device side of delays.hpp.
#pragma once

#include <cstdint>

#ifdef TOKENYARD_WITHOUT_HOOKS
#error "kernels with delays are compiled with and without them: list them so in src/CMakeLists.txt"
#endif

#include "kernels/cuda/delays.hpp"
#include "kernels/cuda/ptx.cuh"

namespace tokenyard::cuda {

// Before a post, before a wait, and at the end of a block.
enum class DelayPlace : std::uint8_t { kPost, kWait, kLeave };

#ifdef TOKENYARD_TEST_HOOKS

static __device__ std::uint64_t delay_seed;
static const RegisteredDelays kDelays(delay_seed);

// One time in four, for up to 16 us and mostly much less. Warps draw by themselves, so that those of a block, and blocks of a
// kernel, come in any order. `turn` and `peer` tell calls and signals apart.
static __device__ __noinline__ void delay_point(DelayPlace place, int rank, int peer, std::uint64_t turn) {
  constexpr int kMaxMagnitude = 14;  // of nanoseconds
  if (delay_seed == 0) return;
  std::uint64_t draw = delay_seed;
  for (const std::uint64_t number :
       {turn, static_cast<std::uint64_t>(place), static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(peer),
        static_cast<std::uint64_t>(blockIdx.x), static_cast<std::uint64_t>(threadIdx.x / 32)}) {
    draw = (draw ^ number) * 0xbf58476d1ce4e5b9ULL;
    draw ^= draw >> 31;
  }
  if (draw % 4 != 0) return;
  const std::uint64_t end = ptx::global_nanoseconds() + (std::uint64_t{1} << (draw >> 8) % (kMaxMagnitude + 1));
  while (ptx::global_nanoseconds() < end) {
  }
}

#else

__device__ constexpr void delay_point(DelayPlace, int, int, std::uint64_t) {}

#endif

}  // namespace tokenyard::cuda
