#include "tests/reference/numbers.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace reference {
namespace {

// A type of 16 bits. Positive codes stand in the order of their values, so neighbouring values have neighbouring codes.
class Small {
 public:
  Small(int exponent_bits, int mantissa_bits)
      : mantissa_bits_(mantissa_bits), least_exponent_(2 - (1 << (exponent_bits - 1))), values_(1U << 16) {
    const int infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
    infinity_ = static_cast<std::uint16_t>(infinity);
    for (int code = 0; code < 1 << 15; ++code) {
      double value = 0.0;
      const int exponent = code >> mantissa_bits;
      const int mantissa = code % (1 << mantissa_bits);
      if (code < infinity) {
        // Below the smallest exponent there is no leading one.
        value = exponent == 0 ? std::ldexp(mantissa, least_exponent_ - mantissa_bits)
                              : std::ldexp((1 << mantissa_bits) + mantissa, exponent - 1 + least_exponent_ - mantissa_bits);
      } else if (code == infinity) {
        value = std::numeric_limits<double>::infinity();
      } else {
        value = std::numeric_limits<double>::quiet_NaN();
      }
      values_[code] = value;
      values_[code + (1 << 15)] = -value;
    }
    past_largest_ = std::ldexp(1.0, 1 - least_exponent_ + 1);
  }

  double value(std::uint16_t code) const { return values_[code]; }

  std::uint16_t nearest(double value) const {
    if (std::isnan(value)) return 0x7fff;
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(value);
    if (magnitude >= past_largest_) return static_cast<std::uint16_t>(sign | infinity_);
    const std::uint16_t lower = below(magnitude);
    const auto upper = static_cast<std::uint16_t>(lower + 1);
    const double upper_value = upper == infinity_ ? past_largest_ : values_[upper];
    const double to_lower = magnitude - values_[lower];
    const double to_upper = upper_value - magnitude;
    const bool takes_lower = to_lower < to_upper || (to_lower == to_upper && lower % 2 == 0);
    return static_cast<std::uint16_t>(sign | (takes_lower ? lower : upper));
  }

 private:
  // The code of the largest value that is not above `magnitude`.
  std::uint16_t below(double magnitude) const {
    if (magnitude == 0.0) return 0;
    const int exponent = std::max(std::ilogb(magnitude), least_exponent_);
    const double steps = std::floor(std::ldexp(magnitude, mantissa_bits_ - exponent));
    return static_cast<std::uint16_t>(((exponent - least_exponent_) << mantissa_bits_) + static_cast<int>(steps));
  }

  int mantissa_bits_;
  int least_exponent_;  // of numbers with a leading one
  std::uint16_t infinity_ = 0;
  double past_largest_ = 0.0;  // what would follow the largest number
  std::vector<double> values_;
};

const Small& small(Number number) {
  static const Small float16(5, 10);
  static const Small bfloat16(8, 7);
  return number == Number::kFloat16 ? float16 : bfloat16;
}

}  // namespace

std::size_t bytes_of(Number number) {
  switch (number) {
    case Number::kFloat16:
    case Number::kBFloat16: return 2;
    case Number::kFloat32: return 4;
    case Number::kFloat64: return 8;
  }
  return 0;
}

double read(Number number, const std::byte* bytes) {
  if (number == Number::kFloat64) {
    double value = 0.0;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  }
  if (number == Number::kFloat32) {
    float value = 0.0F;
    std::memcpy(&value, bytes, sizeof(value));
    return static_cast<double>(value);
  }
  std::uint16_t code = 0;
  std::memcpy(&code, bytes, sizeof(code));
  return small(number).value(code);
}

void write(Number number, double value, std::byte* bytes) {
  if (number == Number::kFloat64) {
    const std::uint64_t nan = 0x7fffffffffffffff;
    std::memcpy(bytes, std::isnan(value) ? static_cast<const void*>(&nan) : &value, sizeof(value));
    return;
  }
  if (number == Number::kFloat32) {
    const std::uint32_t nan = 0x7fffffff;
    const auto rounded = static_cast<float>(value);
    std::memcpy(bytes, std::isnan(value) ? static_cast<const void*>(&nan) : &rounded, sizeof(rounded));
    return;
  }
  const std::uint16_t code = small(number).nearest(value);
  std::memcpy(bytes, &code, sizeof(code));
}

}  // namespace reference
