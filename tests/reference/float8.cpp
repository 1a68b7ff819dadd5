#include "tests/reference/float8.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace reference {
namespace {

constexpr std::size_t kBlock = 128;
constexpr int kNumFinite = 127;  // codes of one sign, zero included

// The positive values, in the order of their codes.
const std::array<float, kNumFinite>& positive_values() {
  static const std::array<float, kNumFinite> values = [] {
    std::array<float, kNumFinite> table{};
    for (int code = 0; code < kNumFinite; ++code) {
      const int exponent = code / 8;
      const int mantissa = code % 8;
      table[code] = static_cast<float>(exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
    }
    return table;
  }();
  return values;
}

float scale_of_block(const float* values, std::size_t num_values, Scale kind) {
  float amax = 1e-4F;
  for (std::size_t i = 0; i < num_values; ++i) {
    if (std::isfinite(values[i])) amax = std::max(amax, std::fabs(values[i]));
  }
  const float exact = amax / 448.0F;
  if (kind == Scale::kFloat) return exact;
  float power = 1.0F;
  while (power < exact) power *= 2.0F;
  while (power / 2.0F >= exact) power /= 2.0F;
  return power;
}

void write_scale(float scale, Scale kind, std::byte* bytes) {
  if (kind != Scale::kExponent) {
    std::memcpy(bytes, &scale, sizeof(scale));
    return;
  }
  *bytes = static_cast<std::byte>(std::ilogb(scale) + 127);
}

}  // namespace

std::size_t bytes_of(Scale scale) { return scale == Scale::kExponent ? 1 : sizeof(float); }

std::uint8_t nearest_float8(float value) {
  if (std::isnan(value)) return 0x7f;
  const std::uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::fabs(value);
  const auto& table = positive_values();
  if (magnitude >= table.back()) return static_cast<std::uint8_t>(sign | (kNumFinite - 1));
  const auto upper = static_cast<int>(std::upper_bound(table.begin(), table.end(), magnitude) - table.begin());
  const int lower = upper - 1;
  const double to_lower = static_cast<double>(magnitude) - static_cast<double>(table[lower]);
  const double to_upper = static_cast<double>(table[upper]) - static_cast<double>(magnitude);
  const bool takes_lower = to_lower < to_upper || (to_lower == to_upper && lower % 2 == 0);
  return static_cast<std::uint8_t>(sign | (takes_lower ? lower : upper));
}

float value_of_float8(std::uint8_t code) {
  const int magnitude = code % 128;
  if (magnitude == kNumFinite) return std::numeric_limits<float>::quiet_NaN();
  return code < 128 ? positive_values()[magnitude] : -positive_values()[magnitude];
}

void quantize_row(const std::vector<float>& values, Scale kind, std::byte* codes, std::byte* scales) {
  for (std::size_t first = 0; first < values.size(); first += kBlock) {
    const std::size_t num_values = std::min(kBlock, values.size() - first);
    const float scale = scale_of_block(values.data() + first, num_values, kind);
    for (std::size_t i = first; i < first + num_values; ++i) {
      codes[i] = static_cast<std::byte>(nearest_float8(values[i] / scale));
    }
    write_scale(scale, kind, scales + first / kBlock * bytes_of(kind));
  }
}

void pass_through_float8(std::vector<float>* values) {
  std::vector<std::byte> codes(values->size());
  std::vector<float> scales(values->size() / kBlock + 1);
  quantize_row(*values, Scale::kFloat, codes.data(), reinterpret_cast<std::byte*>(scales.data()));
  for (std::size_t i = 0; i < values->size(); ++i) {
    (*values)[i] = value_of_float8(static_cast<std::uint8_t>(codes[i])) * scales[i / kBlock];
  }
}

}  // namespace reference
