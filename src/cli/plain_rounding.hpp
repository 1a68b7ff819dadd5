// Rounding to the narrow floating-point formats by plain arithmetic. Shares nothing with the library, so that it can check it.
#pragma once

#include <bit>
#include <cstdint>

namespace tokenyard::cli {

// A binary format by its numbers: `precision` bits of significand (the implicit one included), the exponent of its smallest
// normal number, and its largest finite number.
struct FloatFormat {
  int precision;
  int min_exponent;
  float largest;
};

inline constexpr FloatFormat kFloat16Format{.precision = 11, .min_exponent = -14, .largest = 65504.0F};
inline constexpr FloatFormat kBFloat16Format{.precision = 8, .min_exponent = -126, .largest = 0x1.fep127F};
inline constexpr FloatFormat kFloat8E4M3Format{.precision = 4, .min_exponent = -6, .largest = 448.0F};

// Half the distance from 1 to the next number: no rounding changes a normal number by a larger part of itself.
constexpr double unit_roundoff(const FloatFormat& format) { return 1.0 / static_cast<double>(1U << format.precision); }

// The format's nearest number, ties to even; numbers beyond the largest become the largest. |value| must stay below 2^100,
// where the sum below would overflow.
//
// Adding 1.5 * 2^e and taking it away again leaves a float32 rounded to multiples of 2^(e - 23).
inline float round_to(float value, const FloatFormat& format) {
  int exponent = static_cast<int>(std::bit_cast<std::uint32_t>(value) >> 23 & 0xff) - 127;
  if (exponent < format.min_exponent) exponent = format.min_exponent;
  const int shift = exponent + 23 - (format.precision - 1);
  const auto anchor = std::bit_cast<float>(static_cast<std::uint32_t>(shift + 127) << 23 | 0x400000U);
  const float rounded = (value + anchor) - anchor;
  if (rounded > format.largest) return format.largest;
  if (rounded < -format.largest) return -format.largest;
  return rounded;
}

}  // namespace tokenyard::cli
