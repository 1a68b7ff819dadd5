// FP8 values with a scale per block of 128, in registers: the lanes that hold a block work out its scale together. The same
// bits as kernels/host/quantize.cpp.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/numeric.hpp"
#include "kernels/cuda/ptx.cuh"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cuda {

// Magnitudes compare like their bits; those of NaNs and infinities count as 0, since they do not touch the scale.
__device__ inline std::uint32_t finite_magnitude(float value) {
  const std::uint32_t magnitude = numeric::magnitude_of(value);
  return magnitude < numeric::kInfinityFloat32 ? magnitude : 0;
}

// The largest finite magnitude of a block that `kNumLanes` neighbouring lanes hold; each passes the largest of its own, as
// bits. All lanes of the warp.
template <int kNumLanes>
__device__ float amax_of_lanes(std::uint32_t largest) {
#pragma unroll
  for (int distance = kNumLanes / 2; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffff, largest, distance));
  }
  return std::bit_cast<float>(max(largest, numeric::bits_of(numeric::kLeastAmax)));
}

// What the values of a block are divided by.
struct BlockScale {
  float scale;
  float reciprocal;
  bool is_power_of_2;  // the reciprocal is exact

  __device__ BlockScale(float amax, ScaleFormat format) : is_power_of_2(format != ScaleFormat::kFloat32) {
    scale = amax / numeric::kMaxFloat8E4M3;
    if (is_power_of_2) scale = numeric::round_up_to_power_of_2(scale);
    reciprocal = 1.0F / scale;
  }

  // value / scale, as IEEE rounds it wherever it is not so small that its code is 0. With a correctly rounded reciprocal, a
  // quotient that is off by a unit in the last place is put right by adding its exact remainder's share (Markstein); the first
  // correction sees to the one unit. Infinities have no remainder, and that of a negative zero would make it positive.
  __device__ float quotient(float value) const {
    const float estimate = value * reciprocal;
    if (is_power_of_2) return estimate;
    const float closer = __fmaf_rn(__fmaf_rn(-estimate, scale, value), reciprocal, estimate);
    const float rounded = __fmaf_rn(__fmaf_rn(-closer, scale, value), reciprocal, closer);
    return fabsf(rounded) > 0.0F ? rounded : estimate;
  }

  // Four values, the first at the lowest address.
  __device__ std::uint32_t encode(const float* values) const {
#if __CUDA_ARCH__ >= 890
    return ptx::to_float8_e4m3_pair(quotient(values[0]), quotient(values[1])) |
           (ptx::to_float8_e4m3_pair(quotient(values[2]), quotient(values[3])) << 16);
#else
    std::uint32_t codes = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      codes |= static_cast<std::uint32_t>(numeric::float_to_float8_e4m3(quotient(values[i]))) << (8 * i);
    }
    return codes;
#endif
  }
};

// Four values from their codes, exactly. NaNs stay NaNs, but not necessarily the canonical ones.
__device__ inline void decode_float8(std::uint32_t codes, float* values) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const auto pair = static_cast<std::uint16_t>(codes >> (16 * i));
#if __CUDA_ARCH__ >= 890
    const std::uint32_t float16_pair = ptx::from_float8_e4m3_pair(pair);
    values[2 * i] = ptx::from_float16(static_cast<std::uint16_t>(float16_pair));
    values[2 * i + 1] = ptx::from_float16(static_cast<std::uint16_t>(float16_pair >> 16));
#else
    values[2 * i] = numeric::float8_e4m3_to_float(static_cast<std::uint8_t>(pair));
    values[2 * i + 1] = numeric::float8_e4m3_to_float(static_cast<std::uint8_t>(pair >> 8));
#endif
  }
}

}  // namespace tokenyard::cuda
