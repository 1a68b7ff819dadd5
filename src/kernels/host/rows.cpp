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

// Two vectors at a time stay in registers while all rows are added.
template <DataType kType, bool kScaled>
void add(Number<kType>* sum, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<Number<kType>> d;
  const std::size_t lanes = hn::Lanes(d);
  for (; done + 2 * lanes <= num_elements; done += 2 * lanes) {
    auto sum0 = hn::LoadU(d, sum + done);
    auto sum1 = hn::LoadU(d, sum + done + lanes);
    for (int i = 0; i < num_rows; ++i) {
      const std::byte* row = rows[i] + done * size_of(kType);
      hwy::Prefetch(row + kPrefetchBytes);
      auto addends0 = load_vector<kType>(d, row);
      auto addends1 = load_vector<kType>(d, row + lanes * size_of(kType));
      if constexpr (kScaled) {
        const auto factor = hn::Set(d, static_cast<Number<kType>>(factors[i]));
        addends0 = hn::Mul(addends0, factor);
        addends1 = hn::Mul(addends1, factor);
      }
      sum0 = hn::Add(sum0, addends0);
      sum1 = hn::Add(sum1, addends1);
    }
    hn::StoreU(sum0, d, sum + done);
    hn::StoreU(sum1, d, sum + done + lanes);
  }
#endif
  for (; done < num_elements; ++done) {
    for (int i = 0; i < num_rows; ++i) {
      Number<kType> addend = load_plain<kType>(rows[i] + done * size_of(kType));
      if constexpr (kScaled) addend *= static_cast<Number<kType>>(factors[i]);
      sum[done] += addend;
    }
  }
}

template <DataType kType>
void round_cached(std::byte* row, const Number<kType>* sum, std::size_t num_elements) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<Number<kType>> d;
  for (; done + hn::Lanes(d) <= num_elements; done += hn::Lanes(d)) {
    store_vector<kType>(d, hn::LoadU(d, sum + done), row + done * size_of(kType));
  }
#endif
  for (; done < num_elements; ++done) store_plain<kType>(row + done * size_of(kType), sum[done]);
}

// Stores past the caches save reading the destination first, which is worth a third of the memory traffic, but only where whole
// cache lines are written. The edges of a row share theirs with its neighbours and are stored ordinarily.
template <DataType kType>
void round(std::byte* row, const Number<kType>* sum, std::size_t num_elements, Stores stores) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // shorter vectors of 16-bit codes cannot be streamed
  constexpr std::size_t kMinRowBytes = 1024;
  constexpr std::size_t kLineElements = kLineBytes / size_of(kType);
  const std::size_t edge_bytes = -reinterpret_cast<std::uintptr_t>(row) % kLineBytes;
  if (stores == Stores::kStreamed && num_elements * size_of(kType) >= kMinRowBytes && edge_bytes % size_of(kType) == 0) {
    const hn::ScalableTag<Number<kType>> d;
    std::size_t done = edge_bytes / size_of(kType);
    round_cached<kType>(row, sum, done);
    for (; done + kLineElements <= num_elements; done += kLineElements) {
      for (std::size_t part = done; part < done + kLineElements; part += hn::Lanes(d)) {
        stream_vector<kType>(d, hn::LoadU(d, sum + part), row + part * size_of(kType));
      }
    }
    row += done * size_of(kType);
    sum += done;
    num_elements -= done;
  }
#else
  static_cast<void>(stores);
#endif
  round_cached<kType>(row, sum, num_elements);
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

template <DataType kType>
void add_maybe_scaled(Number<kType>* sum, const std::byte* const* rows, const float* factors, int num_rows,
                      std::size_t num_elements) {
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

void round_float(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements, Stores stores) {
  switch (dtype) {
    case DataType::kFloat16: return round<DataType::kFloat16>(row, sum, num_elements, stores);
    case DataType::kBFloat16: return round<DataType::kBFloat16>(row, sum, num_elements, stores);
    case DataType::kFloat32: return round<DataType::kFloat32>(row, sum, num_elements, stores);
    default: fail_argument("a float32 sum cannot be rounded to rows of type {}", to_string(dtype));
  }
}

void add_to_double(double* sum, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements) {
  add_maybe_scaled<DataType::kFloat64>(sum, rows, factors, num_rows, num_elements);
}

void round_double(std::byte* row, const double* sum, std::size_t num_elements, Stores stores) {
  round<DataType::kFloat64>(row, sum, num_elements, stores);
}

}  // namespace HWY_NAMESPACE
}  // namespace tokenyard::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tokenyard::host {
namespace {

HWY_EXPORT(copy_long);
HWY_EXPORT(add_to_float);
HWY_EXPORT(round_float);
HWY_EXPORT(add_to_double);
HWY_EXPORT(round_double);

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

void add_rows(float* sum, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
              std::size_t num_elements) {
  HWY_DYNAMIC_DISPATCH(add_to_float)(sum, rows, factors, num_rows, dtype, num_elements);
}

void round_row(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements, Stores stores) {
  HWY_DYNAMIC_DISPATCH(round_float)(row, dtype, sum, num_elements, stores);
}

void add_rows(double* sum, const std::byte* const* rows, const float* factors, int num_rows, std::size_t num_elements) {
  HWY_DYNAMIC_DISPATCH(add_to_double)(sum, rows, factors, num_rows, num_elements);
}

void round_row(std::byte* row, const double* sum, std::size_t num_elements, Stores stores) {
  HWY_DYNAMIC_DISPATCH(round_double)(row, sum, num_elements, stores);
}

}  // namespace tokenyard::host
#endif
