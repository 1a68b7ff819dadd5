// Rounding to the narrow types by a method of its own: a table of all values of the type in double, and a search in it for the
// nearest. Uses nothing of the library.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenyard::test {

class ReferenceFormat {
 public:
  // `values[code]` is the finite value of each positive code, ascending. Anything above the last rounds to `overflow_code`;
  // `has_infinity` says whether the place after the last value counts as a neighbour that stands for infinity.
  static ReferenceFormat float16() { return {5, 10, 0x7c00, 0x7c00, true, 0x8000, 0x7fff}; }
  static ReferenceFormat bfloat16() { return {8, 7, 0x7f80, 0x7f80, true, 0x8000, 0x7fff}; }
  static ReferenceFormat float8_e4m3() { return {4, 3, 0x7f, 0x7e, false, 0x80, 0x7f}; }

  std::uint32_t encode(float value) const {
    if (std::isnan(value)) return nan_code_;
    const double magnitude = std::fabs(static_cast<double>(value));
    return (std::signbit(value) ? sign_ : 0U) | nearest(magnitude);
  }

  // The magnitude of a code without its sign; the first code beyond the finite ones gives the value that would follow them.
  double magnitude(std::uint32_t code) const { return values_[code]; }
  std::uint32_t num_finite() const { return static_cast<std::uint32_t>(values_.size() - 1); }
  std::uint32_t sign() const { return sign_; }
  std::uint32_t nan_code() const { return nan_code_; }

  // Floats that a rounding error would show on: every value, every midpoint between neighbours, and the floats next to these,
  // with both signs; infinities, the largest floats, denormals, and NaNs of many payloads.
  std::vector<float> telling_floats() const {
    std::vector<float> floats;
    const auto add = [&](float value) {
      for (const float near : {std::nextafterf(value, -INFINITY), value, std::nextafterf(value, INFINITY)}) {
        floats.push_back(near);
        floats.push_back(-near);
      }
    };
    for (std::size_t code = 0; code + 1 < values_.size(); ++code) {
      add(static_cast<float>(values_[code]));
      add(static_cast<float>((values_[code] + values_[code + 1]) / 2));
    }
    add(INFINITY);
    for (std::uint32_t payload = 1; payload < 0x800000; payload = payload * 2 + payload % 3) {
      floats.push_back(std::bit_cast<float>(0x7f800000U | payload));
      floats.push_back(std::bit_cast<float>(0xff800000U | payload));
      floats.push_back(std::bit_cast<float>(payload));  // a denormal
      floats.push_back(std::bit_cast<float>(0x80000000U | payload));
    }
    return floats;
  }

 private:
  ReferenceFormat(int exponent_bits, int mantissa_bits, std::uint32_t num_finite, std::uint32_t overflow_code,
                  bool has_infinity, std::uint32_t sign, std::uint32_t nan_code)
      : overflow_code_(overflow_code), has_infinity_(has_infinity), sign_(sign), nan_code_(nan_code) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    for (std::uint32_t code = 0; code <= num_finite; ++code) {
      const int exponent = static_cast<int>(code >> mantissa_bits);
      const double fraction = std::ldexp(static_cast<double>(code & ((1U << mantissa_bits) - 1)), -mantissa_bits);
      values_.push_back(exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias));
    }
  }

  std::uint32_t nearest(double magnitude) const {
    const auto above = std::upper_bound(values_.begin(), values_.end(), magnitude);
    if (above == values_.end()) return overflow_code_;
    const auto upper = static_cast<std::uint32_t>(above - values_.begin());
    const double to_upper = values_[upper] - magnitude;
    const double to_lower = magnitude - values_[upper - 1];
    const bool takes_upper = to_upper < to_lower || (to_upper == to_lower && upper % 2 == 0);
    const std::uint32_t code = takes_upper ? upper : upper - 1;
    return code == num_finite() && !has_infinity_ ? overflow_code_ : code;
  }

  std::vector<double> values_;
  std::uint32_t overflow_code_;
  bool has_infinity_;
  std::uint32_t sign_;
  std::uint32_t nan_code_;
};

}  // namespace tokenyard::test
