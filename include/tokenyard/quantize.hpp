// FP8 with one scale per 128 values, and conversions between the 16- and 8-bit types and float.
#pragma once

#include <cstdint>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

inline constexpr std::int64_t kScaleBlock = 128;  // values that share a scale; the last block of a row may be shorter

// Every conversion rounds to nearest even whatever the thread's rounding mode, honours denormals, overflows to infinity
// (float8_e4m3: saturates at +-448, infinities too), and turns every NaN into the positive one with all bits set.
std::uint16_t float_to_bfloat16(float value) noexcept;
std::uint16_t float_to_float16(float value) noexcept;
std::uint8_t float_to_float8_e4m3(float value) noexcept;
float bfloat16_to_float(std::uint16_t bits) noexcept;
float float16_to_float(std::uint16_t bits) noexcept;
float float8_e4m3_to_float(std::uint8_t bits) noexcept;
float ue8m0_to_float(std::uint8_t bits) noexcept;

enum class ScaleFormat : std::uint8_t {
  kFloat32,          // amax / 448
  kFloat32PowerOf2,  // the same rounded up to a power of two
  kUE8M0,            // that power of two as its exponent byte
};

// values: f32, bf16 or f16 [num_rows, hidden]; quantized: float8_e4m3 of the same shape; the rows of both are dense, but may
// stand apart. scales: [num_rows, ceil(hidden / 128)] f32 or ue8m0, any strides (column-major, say). Per block: amax =
// max(|v|, 1e-4) over the finite v, scale = amax / 448 by IEEE division, rounded up to a power of two by bit arithmetic where
// the format says so; stored value = v / scale, converted as above. So NaNs are stored as NaN, infinities saturate, and neither
// touches the block's scale. Purely local; throws Error(kInvalidArgument) for tensors that do not fit together.
void quantize(ConstTensorView values, ScaleFormat format, TensorView quantized, TensorView scales);

// The inverse: value * scale in float32, rounded to the type of `values` (f32, bf16 or f16) as above.
void dequantize(ConstTensorView quantized, ConstTensorView scales, TensorView values);

}  // namespace tokenyard
