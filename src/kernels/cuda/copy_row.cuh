// Copies of rows by the threads of a warp, for what the copy engine cannot do: Ampere, sizes and addresses that are not
// multiples of 16 bytes, elements that stand apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace tokenyard::cuda {

template <class Unit>
__device__ void copy_units(std::byte* target, const std::byte* source, std::int64_t stride_bytes, std::int64_t num_units,
                           int lane) {
#pragma unroll 1
  for (std::int64_t i = lane; i < num_units; i += 32) {
    reinterpret_cast<Unit*>(target)[i] = *reinterpret_cast<const Unit*>(source + i * stride_bytes);
  }
}

// `num_elements` of 1, 2, 4 or 8 bytes that stand `stride_bytes` apart at the source, and densely at the target.
__device__ inline void copy_elements(std::byte* target, const std::byte* source, std::int64_t stride_bytes, int element_bytes,
                                     std::int64_t num_elements, int lane) {
  switch (element_bytes) {
    case 1: return copy_units<std::uint8_t>(target, source, stride_bytes, num_elements, lane);
    case 2: return copy_units<std::uint16_t>(target, source, stride_bytes, num_elements, lane);
    case 4: return copy_units<std::uint32_t>(target, source, stride_bytes, num_elements, lane);
    default: return copy_units<std::uint64_t>(target, source, stride_bytes, num_elements, lane);
  }
}

// A row, 16 bytes at a time, many loads under way at once. All addresses and the size are multiples of 16.
__device__ inline void copy_row(std::byte* target, const std::byte* source, std::int64_t num_bytes, int lane) {
  constexpr int kUnroll = 8;
  constexpr std::int64_t kStep = 32 * 16;
#pragma unroll 1
  for (std::int64_t first = lane * 16; first < num_bytes; first += kUnroll * kStep) {
    uint4 values[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      if (first + i * kStep < num_bytes) values[i] = ptx::load_row(source + first + i * kStep);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      if (first + i * kStep < num_bytes) ptx::store_row(target + first + i * kStep, values[i]);
    }
  }
}

// 16 bytes that lie at `target_of(target)` of every target: `targets` is a set of lanes' bits, and the lane that holds target t
// passes its address. All addresses and the size are multiples of 16.
__device__ inline void copy_to_all(unsigned targets, std::byte* own_target, const std::byte* source, std::int64_t num_bytes,
                                   int lane) {
  constexpr int kUnroll = 4;
  constexpr std::int64_t kStep = 32 * 16;
#pragma unroll 1
  for (std::int64_t first = lane * 16; first - lane * 16 < num_bytes; first += kUnroll * kStep) {
    uint4 values[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      if (first + i * kStep < num_bytes) values[i] = ptx::load_row(source + first + i * kStep);
    }
#pragma unroll 1
    for (unsigned rest = targets; rest != 0; rest &= rest - 1) {
      const auto address =
          __shfl_sync(0xffffffff, reinterpret_cast<std::uintptr_t>(own_target), __ffs(static_cast<int>(rest)) - 1);
      auto* target = reinterpret_cast<std::byte*>(address);
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        if (first + i * kStep < num_bytes) ptx::store_row(target + first + i * kStep, values[i]);
      }
    }
  }
}

}  // namespace tokenyard::cuda
