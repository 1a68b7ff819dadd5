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

// The largest of what `kNumLanes` neighbouring lanes pass; all lanes of the warp.
template <int kNumLanes>
__device__ std::uint32_t largest_of_lanes(std::uint32_t value) {
#pragma unroll
  for (int distance = kNumLanes / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(0xffffffff, value, distance));
  }
  return value;
}

// The largest finite magnitude of a block that `kNumLanes` neighbouring lanes hold; all lanes of the warp. Magnitudes compare
// like their bits; NaNs and infinities do not touch the scale, but are looked for only where there are some.
template <int kNumLanes, int kNumValues>
__device__ float amax_of_block(const float (&values)[kNumValues]) {
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kNumValues; ++i) largest = max(largest, numeric::magnitude_of(values[i]));
  largest = largest_of_lanes<kNumLanes>(largest);
  if (__any_sync(0xffffffff, largest >= numeric::kInfinityFloat32)) {
    largest = 0;
#pragma unroll
    for (int i = 0; i < kNumValues; ++i) {
      const std::uint32_t magnitude = numeric::magnitude_of(values[i]);
      if (magnitude < numeric::kInfinityFloat32) largest = max(largest, magnitude);
    }
    largest = largest_of_lanes<kNumLanes>(largest);
  }
  return std::bit_cast<float>(max(largest, numeric::bits_of(numeric::kLeastAmax)));
}

// value / scale, as IEEE rounds it wherever it is not so small that its code is 0. With a correctly rounded reciprocal, a
// quotient that is off by a unit in the last place is put right by adding its exact remainder's share (Markstein); the first
// correction sees to the one unit. Infinities have no remainder, and that of a negative zero would make it positive.
__device__ inline float exact_quotient(float value, float scale, float reciprocal) {
  const float estimate = value * reciprocal;
  const float closer = __fmaf_rn(__fmaf_rn(-estimate, scale, value), reciprocal, estimate);
  const float rounded = __fmaf_rn(__fmaf_rn(-closer, scale, value), reciprocal, closer);
  return fabsf(rounded) > 0.0F ? rounded : estimate;
}

// Four values, the first at the lowest address.
__device__ inline std::uint32_t to_float8(float value_0, float value_1, float value_2, float value_3) {
#if __CUDA_ARCH__ >= 890
  return ptx::to_float8_e4m3_pair(value_0, value_1) | (ptx::to_float8_e4m3_pair(value_2, value_3) << 16);
#else
  const auto code = [](float value) { return static_cast<std::uint32_t>(numeric::float_to_float8_e4m3(value)); };
  return code(value_0) | code(value_1) << 8 | code(value_2) << 16 | code(value_3) << 24;
#endif
}

static __device__ __noinline__ std::uint32_t to_exact_float8(float value_0, float value_1, float value_2, float value_3,
                                                             float scale, float reciprocal) {
  return to_float8(exact_quotient(value_0, scale, reciprocal), exact_quotient(value_1, scale, reciprocal),
                   exact_quotient(value_2, scale, reciprocal), exact_quotient(value_3, scale, reciprocal));
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

  // Four values, the first at the lowest address. Conversion and rounding keep the order of magnitudes: where a little less and
  // a little more than the quotient have the same code, so has the quotient. For evenly spread values they differ for less than
  // one in 100,000.
  __device__ std::uint32_t encode(const float* values) const {
#if __CUDA_ARCH__ >= 890
    constexpr float kLittle = 0x1p-22F;  // two units of the reciprocal's last place, at least
    const float less = is_power_of_2 ? reciprocal : reciprocal * (1.0F - kLittle);
    const float more = is_power_of_2 ? reciprocal : reciprocal * (1.0F + kLittle);
    const std::uint32_t codes = to_float8(values[0] * less, values[1] * less, values[2] * less, values[3] * less);
    if (codes == to_float8(values[0] * more, values[1] * more, values[2] * more, values[3] * more)) return codes;
#endif
    return to_exact_float8(values[0], values[1], values[2], values[3], scale, reciprocal);
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
