// Vectors of a row's elements as float or double: the vectorised twins of plain_floats.hpp. Included once per target.
#if defined(TOKENYARD_VECTOR_FLOATS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TOKENYARD_VECTOR_FLOATS_INL
#undef TOKENYARD_VECTOR_FLOATS_INL
#else
#define TOKENYARD_VECTOR_FLOATS_INL
#endif

#include <cstddef>
#include <cstdint>

#include "base/numeric.hpp"
#include "hwy/highway.h"
#include "tokenyard/tensor_view.hpp"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace tokenyard::host {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// These targets convert float16 in hardware, with the rounding in the instruction and not in the thread's mode. Elsewhere
// Highway's own conversion neglects infinities and NaNs or depends on that mode.
inline constexpr bool kHasFloat16Instructions = HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2;

template <class D32>
HWY_INLINE hn::Vec<D32> shift_to_nearest_even(D32 d32, hn::Vec<D32> bits, hn::Vec<D32> shifts) {
  const auto one = hn::Set(d32, 1U);
  const auto odd = hn::And(hn::Shr(bits, shifts), one);
  const auto below_half = hn::Sub(hn::Shl(one, hn::Sub(shifts, one)), one);
  return hn::Shr(hn::Add(hn::Add(bits, below_half), odd), shifts);
}

template <int kShift, class D32>
HWY_INLINE hn::Vec<D32> shift_to_nearest_even(D32 d32, hn::Vec<D32> bits) {
  const auto odd = hn::And(hn::ShiftRight<kShift>(bits), hn::Set(d32, 1U));
  return hn::ShiftRight<kShift>(hn::Add(hn::Add(bits, hn::Set(d32, (1U << (kShift - 1)) - 1U)), odd));
}

template <class D32>
HWY_INLINE auto is_below(D32 d32, hn::Vec<D32> values, std::uint32_t limit) {  // both below 2^31
  const hn::RebindToSigned<D32> signed32;
  return hn::RebindMask(d32, hn::Lt(hn::BitCast(signed32, values), hn::Set(signed32, static_cast<std::int32_t>(limit))));
}

// Format::encode for a vector of floats whose NaNs are canonical, given as bits.
template <class Format, class D32>
HWY_INLINE hn::Vec<D32> encode_vector(D32 d32, hn::Vec<D32> bits) {
  const auto magnitudes = hn::And(bits, hn::Set(d32, 0x7fffffffU));
  const auto normal = shift_to_nearest_even<Format::kDroppedBits>(d32, hn::Sub(magnitudes, hn::Set(d32, Format::kRebias)));

  // Lanes that are not subnormal get any legal shift; dropping 25 bits leaves nothing of a mantissa, so no more is needed.
  const auto mantissas = hn::Or(hn::And(magnitudes, hn::Set(d32, 0x7fffffU)), hn::Set(d32, 0x800000U));
  const auto exponents = hn::Min(hn::ShiftRight<numeric::kMantissaBitsFloat32>(magnitudes),
                                 hn::Set(d32, static_cast<std::uint32_t>(Format::kSubnormalShift - 1)));
  const auto shifts = hn::Min(hn::Sub(hn::Set(d32, static_cast<std::uint32_t>(Format::kSubnormalShift)), exponents),
                              hn::Set(d32, static_cast<std::uint32_t>(numeric::kMantissaBitsFloat32 + 2)));
  const auto subnormal = shift_to_nearest_even(d32, mantissas, shifts);

  const auto is_subnormal = is_below(d32, magnitudes, Format::kMinNormal);
  const auto finite = hn::Min(hn::IfThenElse(is_subnormal, subnormal, normal), hn::Set(d32, Format::kOverflow));
  const auto sign = hn::ShiftRight<31 - Format::kSignBit>(hn::Xor(bits, magnitudes));
  const auto is_nan = hn::Eq(bits, hn::Set(d32, numeric::kNanFloat32));
  return hn::IfThenElse(is_nan, hn::Set(d32, Format::kNan), hn::Or(sign, finite));
}

// Format::decode, except that NaNs are any.
template <class Format, class D>
HWY_INLINE hn::Vec<D> decode_vector(D d, hn::Vec<hn::RebindToUnsigned<D>> codes) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> signed32;
  const auto magnitudes = hn::And(codes, hn::Set(d32, Format::kNan));
  const auto shifted = hn::ShiftLeft<Format::kDroppedBits>(magnitudes);
  const auto normal = hn::Add(shifted, hn::Set(d32, Format::kRebias));
  const auto step = hn::BitCast(d, hn::Set(d32, Format::kStep));
  const auto subnormal = hn::BitCast(d32, hn::Mul(hn::ConvertTo(d, hn::BitCast(signed32, magnitudes)), step));
  const auto special = hn::Or(shifted, hn::Set(d32, numeric::kInfinityFloat32));

  const auto is_finite = is_below(d32, magnitudes, Format::kMaxFinite + 1U);
  const auto is_subnormal = is_below(d32, magnitudes, 1U << Format::kMantissa);
  const auto sign = hn::ShiftLeft<31 - Format::kSignBit>(hn::Xor(codes, magnitudes));
  const auto unsigned_bits = hn::IfThenElse(is_finite, hn::IfThenElse(is_subnormal, subnormal, normal), special);
  return hn::BitCast(d, hn::Or(sign, unsigned_bits));
}

// One vector of elements. NaNs stay NaNs, but not necessarily the canonical ones.
template <DataType kType, class D>
HWY_INLINE hn::Vec<D> load_vector(D d, const std::byte* elements) {
  if constexpr (kType == DataType::kFloat32 || kType == DataType::kFloat64) {
    return hn::LoadU(d, reinterpret_cast<const hn::TFromD<D>*>(elements));
  } else {
    const hn::RebindToUnsigned<D> d32;
    if constexpr (kType == DataType::kFloat8E4M3) {
      const auto codes = hn::LoadU(hn::Rebind<std::uint8_t, D>(), reinterpret_cast<const std::uint8_t*>(elements));
      return decode_vector<numeric::Float8E4M3>(d, hn::PromoteTo(d32, codes));
    } else {
      const auto codes = hn::LoadU(hn::Rebind<std::uint16_t, D>(), reinterpret_cast<const std::uint16_t*>(elements));
      if constexpr (kType == DataType::kBFloat16) {
        return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, codes)));
      } else if constexpr (kHasFloat16Instructions) {
        return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), codes));
      } else {
        return decode_vector<numeric::Float16>(d, hn::PromoteTo(d32, codes));
      }
    }
  }
}

// Compares bits, since Highway's comparisons of floats disagree between targets about NaN.
template <class D>
HWY_INLINE hn::Vec<D> canonical_vector(D d, hn::Vec<D> values) {
  using Bits = hn::TFromD<hn::RebindToSigned<D>>;
  const hn::RebindToSigned<D> signed_bits;
  constexpr bool kIsFloat32 = sizeof(Bits) == sizeof(float);
  constexpr auto kNan = static_cast<Bits>(kIsFloat32 ? numeric::kNanFloat32 : numeric::kNanFloat64);
  constexpr auto kInfinity = static_cast<Bits>(kIsFloat32 ? numeric::kInfinityFloat32 : numeric::kInfinityFloat64);
  const auto nan = hn::Set(signed_bits, kNan);
  const auto magnitudes = hn::And(hn::BitCast(signed_bits, values), nan);
  const auto is_nan = hn::Gt(magnitudes, hn::Set(signed_bits, kInfinity));
  return hn::IfThenElse(hn::RebindMask(d, is_nan), hn::BitCast(d, nan), values);
}

// Rounds one vector to the type's codes, in the type's width; NaNs become the canonical one.
template <DataType kType, class D>
HWY_INLINE auto round_vector(D d, hn::Vec<D> values) {
  const auto canonical = canonical_vector(d, values);
  if constexpr (kType == DataType::kFloat32 || kType == DataType::kFloat64) {
    return canonical;
  } else {
    const hn::RebindToUnsigned<D> d32;
    const hn::RebindToSigned<D> signed32;
    const hn::Rebind<std::uint16_t, D> d16;
    const auto bits = hn::BitCast(d32, canonical);
    if constexpr (kType == DataType::kFloat8E4M3) {
      return hn::DemoteTo(hn::Rebind<std::uint8_t, D>(), hn::BitCast(signed32, encode_vector<numeric::Float8E4M3>(d32, bits)));
    } else if constexpr (kType == DataType::kBFloat16) {
      const auto is_nan = hn::Eq(bits, hn::Set(d32, numeric::kNanFloat32));
      const auto nan = hn::Set(d32, std::uint32_t{numeric::kNanBFloat16});
      const auto codes = hn::IfThenElse(is_nan, nan, shift_to_nearest_even<16>(d32, bits));
      return hn::DemoteTo(d16, hn::BitCast(signed32, codes));
    } else if constexpr (kHasFloat16Instructions) {
      return hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), canonical));
    } else {
      return hn::DemoteTo(d16, hn::BitCast(signed32, encode_vector<numeric::Float16>(d32, bits)));
    }
  }
}

// The bfloat16 codes of a vector in the upper halves of its lanes; what stands below is unspecified.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> round_bfloat16_in_place(D d, hn::Vec<D> values) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> signed32;
  const auto bits = hn::BitCast(d32, values);
  const auto magnitudes = hn::BitCast(signed32, hn::And(bits, hn::Set(d32, numeric::kNanFloat32)));
  const auto infinity = hn::Set(signed32, static_cast<std::int32_t>(numeric::kInfinityFloat32));
  const auto is_nan = hn::RebindMask(d32, hn::Gt(magnitudes, infinity));
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1U));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffU)), odd);
  return hn::IfThenElse(is_nan, hn::Set(d32, std::uint32_t{numeric::kNanBFloat16} << 16), rounded);
}

template <DataType kType, class D>
HWY_INLINE void store_vector(D d, hn::Vec<D> values, std::byte* elements) {
  const auto rounded = round_vector<kType>(d, values);
  using Codes = hn::DFromV<decltype(rounded)>;
  hn::StoreU(rounded, Codes(), reinterpret_cast<hn::TFromD<Codes>*>(elements));
}

// The same past the caches; `elements` are aligned to the vector's codes.
template <DataType kType, class D>
HWY_INLINE void stream_vector(D d, hn::Vec<D> values, std::byte* elements) {
  const auto rounded = round_vector<kType>(d, values);
  using Codes = hn::DFromV<decltype(rounded)>;
  hn::Stream(rounded, Codes(), reinterpret_cast<hn::TFromD<Codes>*>(elements));
}

}  // namespace HWY_NAMESPACE
}  // namespace tokenyard::host
HWY_AFTER_NAMESPACE();
#endif
#endif
