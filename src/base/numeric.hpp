// The arithmetic of the small floating point types, once for the whole library: conversions to and from float, and the one NaN.
//
// Rounding is to nearest even by integer arithmetic, so it depends on no floating point mode of the calling thread. NaNs
// become the one that NVIDIA GPUs produce, so that results can be compared byte by byte with theirs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace tokenyard::numeric {

// The canonical NaN of each type: positive, all mantissa bits set.
inline constexpr std::uint8_t kNanFloat8E4M3 = 0x7f;
inline constexpr std::uint16_t kNanFloat16 = 0x7fff;
inline constexpr std::uint16_t kNanBFloat16 = 0x7fff;
inline constexpr std::uint32_t kNanFloat32 = 0x7fffffff;
inline constexpr std::uint64_t kNanFloat64 = 0x7fffffffffffffff;

inline constexpr std::uint32_t kInfinityFloat32 = 0x7f800000;  // magnitudes above it are NaN
inline constexpr std::uint8_t kMaxFloat8E4M3 = 0x7e;           // 448
inline constexpr std::uint8_t kNanUE8M0 = 0xff;
inline constexpr int kMantissaBitsFloat32 = 23;

constexpr std::uint32_t magnitude_of(float value) noexcept { return std::bit_cast<std::uint32_t>(value) & 0x7fffffffU; }
constexpr std::uint32_t sign_of(float value) noexcept { return std::bit_cast<std::uint32_t>(value) >> 31; }

constexpr bool is_nan(float value) noexcept { return magnitude_of(value) > kInfinityFloat32; }
constexpr bool is_nan(double value) noexcept {
  return (std::bit_cast<std::uint64_t>(value) & 0x7fffffffffffffffULL) > 0x7ff0000000000000ULL;
}

constexpr float canonical(float value) noexcept { return is_nan(value) ? std::bit_cast<float>(kNanFloat32) : value; }
constexpr double canonical(double value) noexcept { return is_nan(value) ? std::bit_cast<double>(kNanFloat64) : value; }

// The two halves of a binary format with an implicit leading bit, gradual underflow and this many exponent and mantissa bits.
// Only magnitudes: signs, infinities and NaNs are the callers' business.
template <int kExponentBits, int kMantissaBits>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kDroppedBits = kMantissaBitsFloat32 - kMantissaBits;
  static constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kBias) << kMantissaBitsFloat32;
  static constexpr std::uint32_t kMinNormal = static_cast<std::uint32_t>(128 - kBias) << kMantissaBitsFloat32;  // as float

  // The nearest code of a finite float's magnitude. Beyond the format's largest code it counts on as if the exponent had one
  // more bit, which callers turn into infinity or saturation.
  static constexpr std::uint32_t round(std::uint32_t magnitude) noexcept {
    if (magnitude >= kMinNormal) return shift_to_nearest_even(magnitude - kRebias, kDroppedBits);
    const int exponent = static_cast<int>(magnitude >> kMantissaBitsFloat32);
    // The result is a count of the format's smallest step. More than 24 dropped bits leave less than half a step.
    const int shift = kDroppedBits + 128 - kBias - exponent;
    if (shift > kMantissaBitsFloat32 + 1) return 0;
    const std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
    return shift_to_nearest_even(mantissa, shift);
  }

  // The float that a code stands for, exactly.
  static constexpr float widen(std::uint32_t code) noexcept {
    if (code >> kMantissaBits == 0) {
      constexpr float kStep =
          std::bit_cast<float>(static_cast<std::uint32_t>(128 - kBias - kMantissaBits) << kMantissaBitsFloat32);
      return static_cast<float>(code) * kStep;
    }
    return std::bit_cast<float>((code << kDroppedBits) + kRebias);
  }

 private:
  static constexpr std::uint32_t shift_to_nearest_even(std::uint32_t bits, int shift) noexcept {
    const std::uint32_t odd = (bits >> shift) & 1U;
    return (bits + (1U << (shift - 1)) - 1U + odd) >> shift;
  }
};

using Float16Magnitude = SmallFloat<5, 10>;
using Float8E4M3Magnitude = SmallFloat<4, 3>;

constexpr std::uint16_t float_to_bfloat16(float value) noexcept {
  if (is_nan(value)) return kNanBFloat16;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

constexpr float bfloat16_to_float(std::uint16_t bits) noexcept {
  return canonical(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}

constexpr std::uint16_t float_to_float16(float value) noexcept {
  if (is_nan(value)) return kNanFloat16;
  const std::uint32_t code = std::min(Float16Magnitude::round(magnitude_of(value)), 0x7c00U);
  return static_cast<std::uint16_t>((sign_of(value) << 15) | code);
}

constexpr float float16_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t code = bits & 0x7fffU;
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 15) << 31;
  if (code > 0x7c00U) return std::bit_cast<float>(kNanFloat32);
  if (code == 0x7c00U) return std::bit_cast<float>(sign | kInfinityFloat32);
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(Float16Magnitude::widen(code)));
}

constexpr std::uint8_t float_to_float8_e4m3(float value) noexcept {
  if (is_nan(value)) return kNanFloat8E4M3;
  const std::uint32_t code = std::min<std::uint32_t>(Float8E4M3Magnitude::round(magnitude_of(value)), kMaxFloat8E4M3);
  return static_cast<std::uint8_t>((sign_of(value) << 7) | code);
}

constexpr float float8_e4m3_to_float(std::uint8_t bits) noexcept {
  const std::uint32_t code = bits & 0x7fU;
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 7) << 31;
  if (code == kNanFloat8E4M3) return std::bit_cast<float>(kNanFloat32);
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(Float8E4M3Magnitude::widen(code)));
}

constexpr float ue8m0_to_float(std::uint8_t bits) noexcept {
  if (bits == kNanUE8M0) return std::bit_cast<float>(kNanFloat32);
  if (bits == 0) return std::bit_cast<float>(0x00400000U);  // 2^-127, a denormal
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << kMantissaBitsFloat32);
}

// The smallest power of two that is not below a positive normal float of at most 2^127.
constexpr float round_up_to_power_of_2(float value) noexcept {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) + 0x7fffffU) & 0xff800000U);
}

// The code of a normal power of two.
constexpr std::uint8_t power_of_2_to_ue8m0(float value) noexcept {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(value) >> kMantissaBitsFloat32);
}

}  // namespace tokenyard::numeric
