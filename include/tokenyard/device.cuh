// A window's verbs for kernels of your own. For nvcc; everything else is in the .hpp files.
//
// A kernel takes a DeviceWindow by value and reaches the region of every rank of its domain by rank and offset:
//
//   __global__ void tell(tokenyard::DeviceWindow window, int peer, const float* values) {
//     using namespace tokenyard::device;
//     put<Team::kBlock>(window, peer, 0, values, 4096);
//     signal<Team::kBlock>(window, peer, 4096, 1);
//   }
//
// Verbs belong to a team, all of whose threads call them alike: a thread by itself, a whole warp of 32 threads, or a whole
// block. Ordering, in short (docs/memory-model.md argues it): whoever has seen a signal's value by a wait or a load sees what
// the team that signalled had put before, to whichever rank. Puts are not ordered among themselves. Read regions by ordinary
// loads, never by __ldg or const __restrict__ pointers: these may give what was there before the wait.
//
// C++17 and compute capability 7.0 or later. Nothing is checked here: ranks must be of this domain, ranges inside the window. A
// kernel that waits for another rank keeps its multiprocessor until that rank has come, so all blocks that wait for each other,
// of all ranks of a GPU, must fit on it together. Load kernels before the first of them waits (CUDA_MODULE_LOADING=EAGER).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/device_window.hpp"

namespace tokenyard::device {

// --- Memory accesses of a stated order, for single words --------------------------------------------------------------------

// System scope: between GPUs, and between a GPU and the host.
namespace ptx {

__device__ inline std::uint64_t load_acquire_system(const std::uint64_t* address) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.b64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

__device__ inline void store_release_system(std::uint64_t* address, std::uint64_t value) {
  asm volatile("st.release.sys.b64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

// Returns the old value; acquires and releases.
__device__ inline std::uint64_t add_system(std::uint64_t* address, std::uint64_t value) {
  std::uint64_t old;
  asm volatile("atom.acq_rel.sys.add.u64 %0, [%1], %2;" : "=l"(old) : "l"(address), "l"(value) : "memory");
  return old;
}

// A clock that all multiprocessors of a GPU share; it ticks about once a microsecond.
__device__ inline std::uint64_t global_nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

}  // namespace ptx

// --- Teams ------------------------------------------------------------------------------------------------------------------

enum class Team { kThread, kWarp, kBlock };

template <Team kTeam>
__device__ inline unsigned index_in_team() {
  const unsigned in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return kTeam == Team::kThread ? 0 : kTeam == Team::kWarp ? in_block % 32 : in_block;
}

template <Team kTeam>
__device__ inline unsigned size_of_team() {
  return kTeam == Team::kThread ? 1 : kTeam == Team::kWarp ? 32 : blockDim.x * blockDim.y * blockDim.z;
}

// Orders what the threads of the team have done before with what they do behind it.
template <Team kTeam>
__device__ inline void meet() {
  if constexpr (kTeam == Team::kWarp) __syncwarp();
  if constexpr (kTeam == Team::kBlock) __syncthreads();
}

// --- Verbs ------------------------------------------------------------------------------------------------------------------

// Where `offset` of a rank's region is; null if the rank is in another domain. Loads, stores and atomics may go there directly.
__device__ inline std::byte* address(const DeviceWindow& window, int rank, std::size_t offset) {
  std::byte* const region = window.regions[rank];
  return region == nullptr ? nullptr : region + offset;
}

__device__ inline std::uint64_t* word(const DeviceWindow& window, int rank, std::size_t offset) {
  return reinterpret_cast<std::uint64_t*>(address(window, rank, offset));
}

template <Team kTeam, class Unit>
__device__ inline void copy_units(std::byte* target, const void* source, std::size_t num_bytes) {
  constexpr int kDepth = 4;  // loads under way per thread
  auto* const to = reinterpret_cast<Unit*>(target);
  const auto* const from = static_cast<const Unit*>(source);
  const std::size_t num_units = num_bytes / sizeof(Unit);
  const std::size_t stride = size_of_team<kTeam>();
  std::size_t i = index_in_team<kTeam>();
  for (; i + (kDepth - 1) * stride < num_units; i += kDepth * stride) {
    Unit units[kDepth];
#pragma unroll
    for (int k = 0; k < kDepth; ++k) units[k] = from[i + k * stride];
#pragma unroll
    for (int k = 0; k < kDepth; ++k) to[i + k * stride] = units[k];
  }
  for (; i < num_units; i += stride) to[i] = from[i];
}

// Copies to a rank's region. `source` is memory that this GPU reads; the bytes will be visible to whoever sees a later signal.
// Moves 16 bytes at a time where offset, source and num_bytes are multiples of 16, otherwise 4 or 1.
template <Team kTeam>
__device__ inline void put(const DeviceWindow& window, int rank, std::size_t offset, const void* source,
                           std::size_t num_bytes) {
  std::byte* const target = address(window, rank, offset);
  const std::size_t alignment = reinterpret_cast<std::size_t>(target) | reinterpret_cast<std::size_t>(source) | num_bytes;
  if (alignment % sizeof(uint4) == 0) {
    copy_units<kTeam, uint4>(target, source, num_bytes);
  } else if (alignment % sizeof(std::uint32_t) == 0) {
    copy_units<kTeam, std::uint32_t>(target, source, num_bytes);
  } else {
    copy_units<kTeam, unsigned char>(target, source, num_bytes);
  }
}

// Sets a word of a rank's region, a multiple of 8 from its beginning, when all that the team has done before is visible: a
// release at system scope, with which the acquire of wait and load pairs.
template <Team kTeam>
__device__ inline void signal(const DeviceWindow& window, int rank, std::size_t offset, std::uint64_t value) {
  meet<kTeam>();
  if (index_in_team<kTeam>() == 0) ptx::store_release_system(word(window, rank, offset), value);
}

// Returns the old value; a release and an acquire of the calling thread. GPUs that reach each other by PCIe alone have no
// atomic operations between them: then only one GPU's kernels may add to a word.
__device__ inline std::uint64_t atomic_add(const DeviceWindow& window, int rank, std::size_t offset, std::uint64_t value) {
  return ptx::add_system(word(window, rank, offset), value);
}

// This rank's word, acquired by the calling thread.
__device__ inline std::uint64_t load(const DeviceWindow& window, std::size_t offset) {
  return ptx::load_acquire_system(word(window, window.rank, offset));
}

__device__ inline bool holds(Compare compare, std::uint64_t seen, std::uint64_t value) {
  switch (compare) {
    case Compare::kEqual: return seen == value;
    case Compare::kNotEqual: return seen != value;
    default: return seen >= value;
  }
}

// Whether this rank's group has failed. Slow: the word lies in host memory.
__device__ inline bool has_failed(const DeviceWindow& window) {
  return ptx::load_acquire_system(window.failures[window.rank]) != 0;
}

// The first failure stays, here and at the peers. Two ranks that fail at the same moment may each be told of the other's. By
// plain words, since not every GPU has atomic operations on host memory.
static __device__ __noinline__ void fail(const DeviceWindow& window) {
  for (int i = 0; i < window.num_ranks; ++i) {
    std::uint64_t* const failure = window.failures[(window.rank + i) % window.num_ranks];
    if (failure != nullptr && ptx::load_acquire_system(failure) == 0) {
      ptx::store_release_system(failure, window.missed_deadline);
    }
  }
}

// For one thread.
static __device__ __noinline__ bool await(const DeviceWindow& window, std::size_t offset, Compare compare, std::uint64_t value,
                                          std::uint64_t timeout_nanoseconds) {
  constexpr int kPollsPerLook = 256;  // at the clock and the failure word: neither is free
  const std::uint64_t* const address = word(window, window.rank, offset);
  std::uint64_t begin = 0;
  for (int num_polls = 1;; ++num_polls) {
    if (holds(compare, ptx::load_acquire_system(address), value)) return true;
    if (num_polls % kPollsPerLook != 0) continue;
    const std::uint64_t now = ptx::global_nanoseconds();
    if (begin == 0) begin = now;
    if (has_failed(window)) return false;
    if (now - begin > timeout_nanoseconds) {
      fail(window);
      return false;
    }
  }
}

// Waits until this rank's word compares true with `value`; all that its writer had put before is then visible to the team.
// False, for all its threads, if the deadline has passed, which becomes the group's failure, or if the group had failed
// already.
template <Team kTeam>
__device__ inline bool wait(const DeviceWindow& window, std::size_t offset, Compare compare, std::uint64_t value,
                            std::uint64_t timeout_nanoseconds) {
  bool is_well = true;
  if (index_in_team<kTeam>() == 0) is_well = await(window, offset, compare, value, timeout_nanoseconds);
  if constexpr (kTeam == Team::kWarp) is_well = __all_sync(0xffffffff, is_well) != 0;
  if constexpr (kTeam == Team::kBlock) is_well = __syncthreads_and(is_well) != 0;
  return is_well;
}

// The same with the group's timeout.
template <Team kTeam>
__device__ inline bool wait(const DeviceWindow& window, std::size_t offset, Compare compare, std::uint64_t value) {
  return wait<kTeam>(window, offset, compare, value, window.timeout_nanoseconds);
}

}  // namespace tokenyard::device
