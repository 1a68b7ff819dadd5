#include "cli/plain_quantize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cli/plain_rounding.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::size_t kBlock = 128;
constexpr float kLeastMagnitude = 1e-4F;

// Of a number that e4m3 has: sign, 4 bits of exponent with a bias of 7, 3 bits of mantissa.
std::byte code_of(float number) {
  const int sign = std::signbit(number) ? 0x80 : 0;
  const float magnitude = std::fabs(number);
  if (magnitude < 0x1p-6F) return static_cast<std::byte>(sign | static_cast<int>(magnitude * 0x1p9F));
  const int exponent = std::ilogb(magnitude);
  const int mantissa = static_cast<int>(std::ldexp(magnitude, 3 - exponent)) - 8;
  return static_cast<std::byte>(sign | (exponent + 7) << 3 | mantissa);
}

// The least power of two that is not below `scale`.
int exponent_above(float scale) {
  const int exponent = std::ilogb(scale);
  return std::ldexp(1.0F, exponent) < scale ? exponent + 1 : exponent;
}

}  // namespace

void plain_quantize(const std::vector<float>& values, PlainScale scale_kind, std::byte* codes, std::byte* scales) {
  for (std::size_t first = 0; first < values.size(); first += kBlock) {
    const std::size_t end = std::min(first + kBlock, values.size());
    float largest = kLeastMagnitude;
    for (std::size_t i = first; i < end; ++i) largest = std::max(largest, std::fabs(values[i]));
    float scale = largest / kFloat8E4M3Format.largest;
    const int exponent = exponent_above(scale);
    if (scale_kind != PlainScale::kFloat) scale = std::ldexp(1.0F, exponent);
    for (std::size_t i = first; i < end; ++i) {
      const float quotient = values[i] / scale;
      // A negative number that is rounded to zero keeps its sign.
      codes[i] = code_of(std::copysign(round_to(quotient, kFloat8E4M3Format), quotient));
    }
    if (scale_kind == PlainScale::kExponent) {
      scales[first / kBlock] = static_cast<std::byte>(exponent + 127);
    } else {
      std::memcpy(scales + first / kBlock * sizeof(float), &scale, sizeof(float));
    }
  }
}

}  // namespace tokenyard::cli
