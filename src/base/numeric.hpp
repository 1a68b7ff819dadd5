// The arithmetic of the small floating point types, once for the whole library: conversions to and from float, and the one NaN.
//
// Rounding is to nearest even by integer arithmetic, so it depends on no floating point mode of the calling thread. NaNs
// become the one that NVIDIA GPUs produce, so that results can be compared byte by byte with theirs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace tokenyard::numeric {

// The canonical NaN of a type is positive, with all mantissa bits set; those of the narrower types are SmallFloat::kNan.
inline constexpr std::uint16_t kNanBFloat16 = 0x7fff;
inline constexpr std::uint32_t kNanFloat32 = 0x7fffffff;
inline constexpr std::uint64_t kNanFloat64 = 0x7fffffffffffffff;
inline constexpr std::uint8_t kNanUE8M0 = 0xff;

// Magnitudes above these are NaN.
inline constexpr std::uint32_t kInfinityFloat32 = 0x7f800000;
inline constexpr std::uint64_t kInfinityFloat64 = 0x7ff0000000000000;
inline constexpr int kMantissaBitsFloat32 = 23;

constexpr std::uint32_t bits_of(float value) noexcept { return std::bit_cast<std::uint32_t>(value); }
constexpr std::uint64_t bits_of(double value) noexcept { return std::bit_cast<std::uint64_t>(value); }
constexpr std::uint32_t magnitude_of(float value) noexcept { return bits_of(value) & kNanFloat32; }

constexpr bool is_nan(float value) noexcept { return magnitude_of(value) > kInfinityFloat32; }
constexpr bool is_nan(double value) noexcept { return (bits_of(value) & kNanFloat64) > kInfinityFloat64; }

constexpr float canonical(float value) noexcept { return is_nan(value) ? std::bit_cast<float>(kNanFloat32) : value; }
constexpr double canonical(double value) noexcept { return is_nan(value) ? std::bit_cast<double>(kNanFloat64) : value; }

// A binary format narrower than float: sign, exponent, mantissa with an implicit leading bit, gradual underflow. Magnitudes are
// codes without their sign. Those above kMaxFiniteCode are infinities and NaNs; what is too large becomes kOverflowCode.
template <int kExponentBits, int kMantissaBits, std::uint32_t kMaxFiniteCode, std::uint32_t kOverflowCode>
struct SmallFloat {
  static constexpr int kSignBit = kExponentBits + kMantissaBits;
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kMantissa = kMantissaBits;
  static constexpr int kDroppedBits = kMantissaBitsFloat32 - kMantissaBits;
  static constexpr std::uint32_t kMaxFinite = kMaxFiniteCode;
  static constexpr std::uint32_t kOverflow = kOverflowCode;
  static constexpr std::uint32_t kNan = (1U << kSignBit) - 1U;
  // As float bits: what the exponent's bias differs by, the smallest normal number, and the step between subnormal numbers.
  static constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kBias) << kMantissaBitsFloat32;
  static constexpr std::uint32_t kMinNormal = static_cast<std::uint32_t>(128 - kBias) << kMantissaBitsFloat32;
  static constexpr std::uint32_t kStep = static_cast<std::uint32_t>(128 - kBias - kMantissaBits) << kMantissaBitsFloat32;
  // The mantissa bits that a float of exponent field e below kMinNormal's loses are kSubnormalShift - e.
  static constexpr int kSubnormalShift = kDroppedBits + 128 - kBias;

  static constexpr std::uint32_t encode(float value) noexcept {
    if (is_nan(value)) return kNan;
    return ((bits_of(value) >> 31) << kSignBit) | std::min(encode_magnitude(magnitude_of(value)), kOverflow);
  }

  static constexpr float decode(std::uint32_t code) noexcept {
    const std::uint32_t sign = (code >> kSignBit) << 31;
    const std::uint32_t magnitude = code & kNan;
    if (magnitude > kMaxFinite) return canonical(std::bit_cast<float>(sign | kInfinityFloat32 | (magnitude << kDroppedBits)));
    if (magnitude >> kMantissaBits != 0) return std::bit_cast<float>(sign | ((magnitude << kDroppedBits) + kRebias));
    return std::bit_cast<float>(sign | bits_of(static_cast<float>(magnitude) * std::bit_cast<float>(kStep)));
  }

 private:
  static constexpr std::uint32_t encode_magnitude(std::uint32_t magnitude) noexcept {
    if (magnitude >= kMinNormal) return shift_to_nearest_even(magnitude - kRebias, kDroppedBits);
    const int shift = kSubnormalShift - static_cast<int>(magnitude >> kMantissaBitsFloat32);
    if (shift > kMantissaBitsFloat32 + 1) return 0;  // less than half a step
    return shift_to_nearest_even((magnitude & 0x7fffffU) | 0x800000U, shift);
  }

  static constexpr std::uint32_t shift_to_nearest_even(std::uint32_t bits, int shift) noexcept {
    const std::uint32_t odd = (bits >> shift) & 1U;
    return (bits + (1U << (shift - 1)) - 1U + odd) >> shift;
  }
};

using Float16 = SmallFloat<5, 10, 0x7bff, 0x7c00>;  // overflows to infinity
using Float8E4M3 = SmallFloat<4, 3, 0x7e, 0x7e>;    // saturates at 448

constexpr std::uint16_t float_to_float16(float value) noexcept { return static_cast<std::uint16_t>(Float16::encode(value)); }
constexpr float float16_to_float(std::uint16_t bits) noexcept { return Float16::decode(bits); }

constexpr std::uint8_t float_to_float8_e4m3(float value) noexcept {
  return static_cast<std::uint8_t>(Float8E4M3::encode(value));
}
constexpr float float8_e4m3_to_float(std::uint8_t bits) noexcept { return Float8E4M3::decode(bits); }

constexpr std::uint16_t float_to_bfloat16(float value) noexcept {
  if (is_nan(value)) return kNanBFloat16;
  const std::uint32_t odd = (bits_of(value) >> 16) & 1U;
  return static_cast<std::uint16_t>((bits_of(value) + 0x7fffU + odd) >> 16);
}
constexpr float bfloat16_to_float(std::uint16_t bits) noexcept {
  return canonical(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}

constexpr float ue8m0_to_float(std::uint8_t bits) noexcept {
  if (bits == kNanUE8M0) return std::bit_cast<float>(kNanFloat32);
  if (bits == 0) return std::bit_cast<float>(0x00400000U);  // 2^-127 is a denormal
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << kMantissaBitsFloat32);
}

// A block of FP8 values is scaled by its largest magnitude, which is at least kLeastAmax, over kMaxFloat8E4M3.
inline constexpr float kLeastAmax = 1e-4F;
inline constexpr float kMaxFloat8E4M3 = 448.0F;

// The smallest power of two that is not below `value`, which is positive, normal and at most 2^127.
constexpr float round_up_to_power_of_2(float value) noexcept {
  return std::bit_cast<float>((bits_of(value) + 0x7fffffU) & 0xff800000U);
}

// The code of a normal power of two.
constexpr std::uint8_t power_of_2_to_ue8m0(float value) noexcept {
  return static_cast<std::uint8_t>(bits_of(value) >> kMantissaBitsFloat32);
}

}  // namespace tokenyard::numeric
