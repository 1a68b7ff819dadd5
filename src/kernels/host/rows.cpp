#include "kernels/host/rows.hpp"

#include <cstdint>
#include <cstring>

#include "base/fail.hpp"
#include "kernels/host/plain_floats.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/host/rows.cpp"
#include "kernels/host/vector_targets.hpp"
// After the targets are known.
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/host/vector_floats-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace tokenyard::host {
namespace HWY_NAMESPACE {

inline constexpr std::size_t kLineBytes = 64;

// Several rows are read in step, block by block, which hides the streams from the processor's own prefetcher. Fetching
// ahead takes a fifth off a combine.
inline constexpr std::size_t kPrefetchBytes = 2048;

// Two vectors' worth of elements of a type, in whatever order is cheapest: the twin of a vector for what is summed by element.
// Numbers of bfloat16 rows are split by their place in 32 bits, which spares widening and narrowing.
#if HWY_TARGET != HWY_SCALAR
template <DataType kType>
struct Pair {
  using D = hn::ScalableTag<Number<kType>>;
  hn::Vec<D> first, second;

  HWY_INLINE static std::size_t num_elements() { return 2 * hn::Lanes(D()); }
  HWY_INLINE static Pair zero() { return {hn::Zero(D()), hn::Zero(D())}; }

  HWY_INLINE static Pair load(const std::byte* elements) {
    const D d;
    if constexpr (kType == DataType::kBFloat16) {
      const hn::RebindToUnsigned<D> d32;
      const auto codes = hn::LoadU(d32, reinterpret_cast<const std::uint32_t*>(elements));
      return {hn::BitCast(d, hn::ShiftLeft<16>(codes)), hn::BitCast(d, hn::And(codes, hn::Set(d32, 0xffff0000U)))};
    } else {
      return {load_vector<kType>(d, elements), load_vector<kType>(d, elements + hn::Lanes(d) * size_of(kType))};
    }
  }

  template <bool kScaled>
  HWY_INLINE void add(const std::byte* elements, const float* factor) {
    Pair addends = load(elements);
    if constexpr (kScaled) {
      const auto factors = hn::Set(D(), static_cast<Number<kType>>(*factor));
      addends = {hn::Mul(addends.first, factors), hn::Mul(addends.second, factors)};
    }
    first = hn::Add(first, addends.first);
    second = hn::Add(second, addends.second);
  }

  template <Stores kStores>
  HWY_INLINE void store(std::byte* elements) const {
    const D d;
    if constexpr (kType == DataType::kBFloat16) {
      const hn::RebindToUnsigned<D> d32;
      const auto low = hn::ShiftRight<16>(round_bfloat16_in_place(d, first));
      const auto high = hn::And(round_bfloat16_in_place(d, second), hn::Set(d32, 0xffff0000U));
      const auto codes = hn::Or(low, high);
      if constexpr (kStores == Stores::kStreamed) {
        hn::Stream(codes, d32, reinterpret_cast<std::uint32_t*>(elements));
      } else {
        hn::StoreU(codes, d32, reinterpret_cast<std::uint32_t*>(elements));
      }
    } else {
      std::byte* upper = elements + hn::Lanes(d) * size_of(kType);
      if constexpr (kStores == Stores::kStreamed) {
        stream_vector<kType>(d, first, elements);
        stream_vector<kType>(d, second, upper);
      } else {
        store_vector<kType>(d, first, elements);
        store_vector<kType>(d, second, upper);
      }
    }
  }
};

// Sums stay in registers from the first row to the rounded result.
template <DataType kType, bool kScaled, Stores kStores>
std::size_t sum_pairs(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, std::size_t done,
                      std::size_t num_elements) {
  using P = Pair<kType>;
  const std::size_t step = 2 * P::num_elements();
  const std::size_t pair_bytes = P::num_elements() * size_of(kType);
  for (; done + step <= num_elements; done += step) {
    const std::size_t offset = done * size_of(kType);
    P low = P::zero();
    P high = P::zero();
    for (int i = 0; i < num_rows; ++i) {
      const std::byte* elements = rows[i] + offset;
      hwy::Prefetch(elements + kPrefetchBytes);
      low.template add<kScaled>(elements, factors + i);
      high.template add<kScaled>(elements + pair_bytes, factors + i);
    }
    low.template store<kStores>(row + offset);
    high.template store<kStores>(row + offset + pair_bytes);
  }
  return done;
}
#endif

template <DataType kType, bool kScaled>
void sum_plain(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, std::size_t begin,
               std::size_t end) {
  for (std::size_t done = begin; done < end; ++done) {
    Number<kType> sum{0};
    for (int i = 0; i < num_rows; ++i) {
      Number<kType> addend = load_plain<kType>(rows[i] + done * size_of(kType));
      if constexpr (kScaled) addend *= static_cast<Number<kType>>(factors[i]);
      sum += addend;
    }
    store_plain<kType>(row + done * size_of(kType), sum);
  }
}

// Stores past the caches save reading the destination first, which is worth a third of the memory traffic, but only where whole
// cache lines are written. The edges of a row share theirs with its neighbours and are stored ordinarily.
template <DataType kType, bool kScaled>
void sum(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements,
         Stores stores) {
  std::size_t done = 0;
  const auto sum_cached = [&](std::size_t end) {
#if HWY_TARGET != HWY_SCALAR
    done = sum_pairs<kType, kScaled, Stores::kCached>(row, rows, factors, num_rows, done, end);
#endif
    sum_plain<kType, kScaled>(row, rows, factors, num_rows, done, end);
    done = end;
  };
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // shorter vectors of 16-bit codes cannot be streamed
  constexpr std::size_t kMinRowBytes = 1024;
  constexpr std::size_t kLineElements = kLineBytes / size_of(kType);
  const std::size_t edge_bytes = -reinterpret_cast<std::uintptr_t>(row) % kLineBytes;
  if (stores == Stores::kStreamed && num_elements * size_of(kType) >= kMinRowBytes && edge_bytes % size_of(kType) == 0) {
    sum_cached(edge_bytes / size_of(kType));
    const std::size_t end = done + (num_elements - done) / kLineElements * kLineElements;
    done = sum_pairs<kType, kScaled, Stores::kStreamed>(row, rows, factors, num_rows, done, end);
  }
#else
  static_cast<void>(stores);
#endif
  sum_cached(num_elements);
}

template <DataType kType>
void sum_maybe_scaled(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows,
                      std::size_t num_elements, Stores stores) {
  if (factors == nullptr) return sum<kType, false>(row, rows, factors, num_rows, num_elements, stores);
  sum<kType, true>(row, rows, factors, num_rows, num_elements, stores);
}

void sum_typed(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
               std::size_t num_elements, Stores stores) {
  switch (dtype) {
    case DataType::kFloat16: return sum_maybe_scaled<DataType::kFloat16>(row, rows, factors, num_rows, num_elements, stores);
    case DataType::kBFloat16: return sum_maybe_scaled<DataType::kBFloat16>(row, rows, factors, num_rows, num_elements, stores);
    case DataType::kFloat32: return sum_maybe_scaled<DataType::kFloat32>(row, rows, factors, num_rows, num_elements, stores);
    case DataType::kFloat64: return sum_maybe_scaled<DataType::kFloat64>(row, rows, factors, num_rows, num_elements, stores);
    default: fail_argument("rows of type {} cannot be summed", to_string(dtype));
  }
}

// Streams what covers whole cache lines, as round does. At least a line long.
void copy_long(std::byte* destination, const std::byte* source, std::size_t num_bytes) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<std::uint8_t, 32> d;
  std::size_t done = -reinterpret_cast<std::uintptr_t>(destination) % kLineBytes;
  std::memcpy(destination, source, done);
  for (; done + kLineBytes <= num_bytes; done += kLineBytes) {
    for (std::size_t part = done; part < done + kLineBytes; part += hn::Lanes(d)) {
      const auto bytes = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(source + part));
      hn::Stream(bytes, d, reinterpret_cast<std::uint8_t*>(destination + part));
    }
  }
  std::memcpy(destination + done, source + done, num_bytes - done);
#else
  std::memcpy(destination, source, num_bytes);
#endif
}

// A vector at a time stays in a register while all rows are added.
template <DataType kType, bool kScaled>
void add(float* sum, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  for (; done + hn::Lanes(d) <= num_elements; done += hn::Lanes(d)) {
    auto partial = hn::LoadU(d, sum + done);
    for (int i = 0; i < num_rows; ++i) {
      auto addends = load_vector<kType>(d, rows[i] + done * size_of(kType));
      if constexpr (kScaled) addends = hn::Mul(addends, hn::Set(d, factors[i]));
      partial = hn::Add(partial, addends);
    }
    hn::StoreU(partial, d, sum + done);
  }
#endif
  for (; done < num_elements; ++done) {
    for (int i = 0; i < num_rows; ++i) {
      float addend = load_plain<kType>(rows[i] + done * size_of(kType));
      if constexpr (kScaled) addend *= factors[i];
      sum[done] += addend;
    }
  }
}

template <DataType kType>
void round(std::byte* row, const float* sum, std::size_t num_elements) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  for (; done + hn::Lanes(d) <= num_elements; done += hn::Lanes(d)) {
    store_vector<kType>(d, hn::LoadU(d, sum + done), row + done * size_of(kType));
  }
#endif
  for (; done < num_elements; ++done) store_plain<kType>(row + done * size_of(kType), sum[done]);
}

template <DataType kType>
void add_maybe_scaled(float* sum, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements) {
  if (factors == nullptr) return add<kType, false>(sum, rows, factors, num_rows, num_elements);
  add<kType, true>(sum, rows, factors, num_rows, num_elements);
}

void add_to_float(float* sum, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
                  std::size_t num_elements) {
  switch (dtype) {
    case DataType::kFloat16: return add_maybe_scaled<DataType::kFloat16>(sum, rows, factors, num_rows, num_elements);
    case DataType::kBFloat16: return add_maybe_scaled<DataType::kBFloat16>(sum, rows, factors, num_rows, num_elements);
    case DataType::kFloat32: return add_maybe_scaled<DataType::kFloat32>(sum, rows, factors, num_rows, num_elements);
    default: fail_argument("rows of type {} cannot be summed in float32", to_string(dtype));
  }
}

void round_float(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements) {
  switch (dtype) {
    case DataType::kFloat16: return round<DataType::kFloat16>(row, sum, num_elements);
    case DataType::kBFloat16: return round<DataType::kBFloat16>(row, sum, num_elements);
    case DataType::kFloat32: return round<DataType::kFloat32>(row, sum, num_elements);
    default: fail_argument("a float32 sum cannot be rounded to rows of type {}", to_string(dtype));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tokenyard::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tokenyard::host {
namespace {

HWY_EXPORT(copy_long);
HWY_EXPORT(sum_typed);
HWY_EXPORT(add_to_float);
HWY_EXPORT(round_float);

}  // namespace

void copy_row(std::byte* destination, const std::byte* source, std::size_t num_bytes, Stores stores) {
  // Measured: shorter rows hold too few whole lines to gain from streaming.
  constexpr std::size_t kMinRowBytes = 128;
  if (num_bytes >= kMinRowBytes) {
    if (stores == Stores::kCached) {
      std::memcpy(destination, source, num_bytes);
    } else {
      HWY_DYNAMIC_DISPATCH(copy_long)(destination, source, num_bytes);
    }
    return;
  }
  for (; num_bytes >= 16; num_bytes -= 16, destination += 16, source += 16) std::memcpy(destination, source, 16);
  std::memcpy(destination, source, num_bytes);
}

void finish_copies() { hwy::FlushStream(); }

void sum_rows(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
              std::size_t num_elements, Stores stores) {
  HWY_DYNAMIC_DISPATCH(sum_typed)(row, rows, factors, num_rows, dtype, num_elements, stores);
}

void add_rows(float* sum, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
              std::size_t num_elements) {
  HWY_DYNAMIC_DISPATCH(add_to_float)(sum, rows, factors, num_rows, dtype, num_elements);
}

void round_row(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements) {
  HWY_DYNAMIC_DISPATCH(round_float)(row, dtype, sum, num_elements);
}

}  // namespace tokenyard::host
#endif
