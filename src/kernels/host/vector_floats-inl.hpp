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

// Codes of a SmallFloat for the magnitudes of finite floats, given as bits.
template <class Format, class V32>
HWY_INLINE V32 round_magnitudes(V32 magnitudes) {
  const hn::DFromV<V32> d32;
  const V32 one = hn::Set(d32, 1);
  constexpr int kDropped = Format::kDroppedBits;

  const V32 rebased = hn::Sub(magnitudes, hn::Set(d32, Format::kRebias));
  const V32 odd = hn::And(hn::ShiftRight<kDropped>(rebased), one);
  const V32 normal = hn::ShiftRight<kDropped>(hn::Add(hn::Add(rebased, hn::Set(d32, (1U << (kDropped - 1)) - 1U)), odd));

  // 25 dropped bits leave nothing of a mantissa, so more need not be told apart.
  const V32 exponents = hn::ShiftRight<numeric::kMantissaBitsFloat32>(magnitudes);
  const V32 clamped = hn::Min(exponents, hn::Set(d32, static_cast<std::uint32_t>(127 - Format::kBias)));
  const V32 shifts = hn::Min(hn::Sub(hn::Set(d32, static_cast<std::uint32_t>(kDropped + 128 - Format::kBias)), clamped),
                             hn::Set(d32, static_cast<std::uint32_t>(numeric::kMantissaBitsFloat32 + 2)));
  const V32 mantissas = hn::Or(hn::And(magnitudes, hn::Set(d32, 0x7fffffU)), hn::Set(d32, 0x800000U));
  const V32 subnormal_odd = hn::And(hn::Shr(mantissas, shifts), one);
  const V32 below_half = hn::Sub(hn::Shl(one, hn::Sub(shifts, one)), one);
  const V32 subnormal = hn::Shr(hn::Add(hn::Add(mantissas, below_half), subnormal_odd), shifts);

  const hn::RebindToSigned<decltype(d32)> signed32;
  const auto is_normal =
      hn::Gt(hn::BitCast(signed32, magnitudes), hn::Set(signed32, static_cast<std::int32_t>(Format::kMinNormal - 1U)));
  return hn::IfThenElse(hn::RebindMask(d32, is_normal), normal, subnormal);
}

// The inverse of round_magnitudes for codes without infinities and NaNs.
template <class Format, class DFloat>
HWY_INLINE hn::Vec<DFloat> widen_magnitudes(DFloat d, hn::Vec<hn::RebindToUnsigned<DFloat>> codes) {
  const hn::RebindToUnsigned<DFloat> d32;
  const hn::RebindToSigned<DFloat> signed32;
  constexpr int kMantissaBits = numeric::kMantissaBitsFloat32 - Format::kDroppedBits;
  const auto normal = hn::BitCast(d, hn::Add(hn::ShiftLeft<Format::kDroppedBits>(codes), hn::Set(d32, Format::kRebias)));
  const auto subnormal = hn::Mul(hn::ConvertTo(d, hn::BitCast(signed32, codes)), hn::Set(d, Format::widen(1)));
  const auto is_subnormal = hn::Lt(hn::BitCast(signed32, codes), hn::Set(signed32, 1 << kMantissaBits));
  return hn::IfThenElse(hn::RebindMask(d, is_subnormal), subnormal, normal);
}

// One vector of elements. NaNs stay NaNs, but not necessarily the canonical ones.
template <DataType kType, class D>
HWY_INLINE hn::Vec<D> load_vector(D d, const std::byte* elements) {
  if constexpr (kType == DataType::kFloat32 || kType == DataType::kFloat64) {
    return hn::LoadU(d, reinterpret_cast<const hn::TFromD<D>*>(elements));
  } else {
    const hn::RebindToUnsigned<D> d32;
    const hn::Rebind<std::uint16_t, D> d16;
    const auto codes = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(elements));
    if constexpr (kType == DataType::kBFloat16) {
      return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, codes)));
    } else if constexpr (kHasFloat16Instructions) {
      const hn::Rebind<hwy::float16_t, D> half;
      return hn::PromoteTo(d, hn::BitCast(half, codes));
    } else {
      const auto wide = hn::PromoteTo(d32, codes);
      const auto magnitudes = hn::And(wide, hn::Set(d32, 0x7fffU));
      const auto finite = hn::BitCast(d32, widen_magnitudes<numeric::Float16Magnitude>(d, magnitudes));
      // An exponent of all ones stays one: infinity, or NaN with its mantissa.
      const auto special = hn::Or(hn::ShiftLeft<13>(magnitudes), hn::Set(d32, numeric::kInfinityFloat32));
      const hn::RebindToSigned<D> signed32;
      const auto is_special = hn::Gt(hn::BitCast(signed32, magnitudes), hn::Set(signed32, 0x7bff));
      const auto sign = hn::ShiftLeft<16>(hn::Xor(wide, magnitudes));
      return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(hn::RebindMask(d32, is_special), special, finite)));
    }
  }
}

template <class D>
HWY_INLINE hn::Vec<D> canonical_vector(D d, hn::Vec<D> values) {
  using Bits = hn::RebindToUnsigned<D>;
  constexpr auto kNan = sizeof(hn::TFromD<D>) == 4 ? numeric::kNanFloat32 : numeric::kNanFloat64;
  const auto nan = hn::BitCast(d, hn::Set(Bits(), static_cast<hn::TFromD<Bits>>(kNan)));
  return hn::IfThenElse(hn::Ne(values, values), nan, values);
}

// Rounds one vector to the type's codes, in the type's width; NaNs become the canonical one.
template <DataType kType, class D>
HWY_INLINE auto round_vector(D d, hn::Vec<D> values) {
  if constexpr (kType == DataType::kFloat32 || kType == DataType::kFloat64) {
    return canonical_vector(d, values);
  } else {
    const hn::RebindToUnsigned<D> d32;
    const hn::RebindToSigned<D> signed32;
    const hn::Rebind<std::uint16_t, D> d16;
    const auto bits = hn::BitCast(d32, canonical_vector(d, values));
    if constexpr (kType == DataType::kBFloat16) {
      const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1U));
      const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffU)), odd));
      const auto is_nan = hn::Eq(bits, hn::Set(d32, numeric::kNanFloat32));
      const auto codes = hn::IfThenElse(is_nan, hn::Set(d32, std::uint32_t{numeric::kNanBFloat16}), rounded);
      return hn::DemoteTo(d16, hn::BitCast(signed32, codes));
    } else if constexpr (kHasFloat16Instructions) {
      const hn::Rebind<hwy::float16_t, D> half;
      return hn::BitCast(d16, hn::DemoteTo(half, hn::BitCast(d, bits)));
    } else {
      const auto magnitudes = hn::And(bits, hn::Set(d32, 0x7fffffffU));
      const auto sign = hn::ShiftRight<16>(hn::Xor(bits, magnitudes));
      const auto finite = hn::Min(round_magnitudes<numeric::Float16Magnitude>(magnitudes), hn::Set(d32, 0x7c00U));
      const auto is_nan = hn::Eq(bits, hn::Set(d32, numeric::kNanFloat32));
      const auto codes = hn::IfThenElse(is_nan, hn::Set(d32, std::uint32_t{numeric::kNanFloat16}), hn::Or(sign, finite));
      return hn::DemoteTo(d16, hn::BitCast(signed32, codes));
    }
  }
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
