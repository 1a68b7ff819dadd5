#include "tokenyard/quantize.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/check_tensor.hpp"
#include "base/fail.hpp"
#include "kernels/host/plain_floats.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/host/quantize.cpp"
#include "kernels/host/vector_targets.hpp"
// After the targets are known.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/host/vector_floats-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace tokenyard::host {
namespace HWY_NAMESPACE {

// The largest finite magnitude of a block, at least numeric::kLeastAmax. Magnitudes compare like their bits.
template <DataType kType>
float amax_of(const std::byte* values, std::int64_t num_values) {
  std::int64_t done = 0;
  std::uint32_t amax = numeric::bits_of(numeric::kLeastAmax);
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> d32;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto largest = hn::Set(d32, amax);
  for (; done + lanes <= num_values; done += lanes) {
    const auto bits = hn::BitCast(d32, load_vector<kType>(d, values + done * size_of(kType)));
    const auto magnitudes = hn::And(bits, hn::Set(d32, 0x7fffffffU));
    const auto is_finite = is_below(d32, magnitudes, numeric::kInfinityFloat32);
    largest = hn::Max(largest, hn::IfThenElseZero(is_finite, magnitudes));
  }
  amax = hn::GetLane(hn::MaxOfLanes(d32, largest));
#endif
  for (; done < num_values; ++done) {
    const std::uint32_t magnitude = numeric::magnitude_of(load_plain<kType>(values + done * size_of(kType)));
    if (magnitude < numeric::kInfinityFloat32) amax = std::max(amax, magnitude);
  }
  return std::bit_cast<float>(amax);
}

template <DataType kType>
void quantize_block(const std::byte* values, std::int64_t num_values, float scale, std::byte* codes) {
  std::int64_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scales = hn::Set(d, scale);
  for (; done + lanes <= num_values; done += lanes) {
    const auto quotients = hn::Div(load_vector<kType>(d, values + done * size_of(kType)), scales);
    store_vector<DataType::kFloat8E4M3>(d, quotients, codes + done);
  }
#endif
  for (; done < num_values; ++done) {
    store_plain<DataType::kFloat8E4M3>(codes + done, load_plain<kType>(values + done * size_of(kType)) / scale);
  }
}

template <DataType kType>
void dequantize_block(const std::byte* codes, std::int64_t num_values, float scale, std::byte* values) {
  std::int64_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scales = hn::Set(d, scale);
  for (; done + lanes <= num_values; done += lanes) {
    const auto products = hn::Mul(load_vector<DataType::kFloat8E4M3>(d, codes + done), scales);
    store_vector<kType>(d, products, values + done * size_of(kType));
  }
#endif
  for (; done < num_values; ++done) {
    store_plain<kType>(values + done * size_of(kType), load_plain<DataType::kFloat8E4M3>(codes + done) * scale);
  }
}

template <DataType kType>
void quantize_rows(const ConstTensorView& values, ScaleFormat format, const TensorView& quantized, const TensorView& scales) {
  for (std::int64_t row = 0; row < values.shape[0]; ++row) {
    for (std::int64_t block = 0; block < scales.shape[1]; ++block) {
      const std::int64_t first = block * kScaleBlock;
      const std::int64_t num_values = std::min(kScaleBlock, values.shape[1] - first);
      float scale = amax_of<kType>(values.at(row, first), num_values) / numeric::kMaxFloat8E4M3;
      if (format != ScaleFormat::kFloat32) scale = numeric::round_up_to_power_of_2(scale);
      if (format == ScaleFormat::kUE8M0) {
        *scales.at(row, block) = static_cast<std::byte>(numeric::power_of_2_to_ue8m0(scale));
      } else {
        std::memcpy(scales.at(row, block), &scale, sizeof(scale));
      }
      quantize_block<kType>(values.at(row, first), num_values, scale, quantized.at(row, first));
    }
  }
}

template <DataType kType>
void dequantize_rows(const ConstTensorView& quantized, const ConstTensorView& scales, const TensorView& values) {
  for (std::int64_t row = 0; row < values.shape[0]; ++row) {
    for (std::int64_t block = 0; block < scales.shape[1]; ++block) {
      const std::int64_t first = block * kScaleBlock;
      const std::int64_t num_values = std::min(kScaleBlock, values.shape[1] - first);
      float scale;
      if (scales.dtype == DataType::kUE8M0) {
        scale = numeric::ue8m0_to_float(static_cast<std::uint8_t>(*scales.at(row, block)));
      } else {
        std::memcpy(&scale, scales.at(row, block), sizeof(scale));
      }
      dequantize_block<kType>(quantized.at(row, first), num_values, scale, values.at(row, first));
    }
  }
}

void quantize_tensor(const ConstTensorView& values, ScaleFormat format, const TensorView& quantized, const TensorView& scales) {
  switch (values.dtype) {
    case DataType::kFloat16: return quantize_rows<DataType::kFloat16>(values, format, quantized, scales);
    case DataType::kBFloat16: return quantize_rows<DataType::kBFloat16>(values, format, quantized, scales);
    default: return quantize_rows<DataType::kFloat32>(values, format, quantized, scales);
  }
}

void dequantize_tensor(const ConstTensorView& quantized, const ConstTensorView& scales, const TensorView& values) {
  switch (values.dtype) {
    case DataType::kFloat16: return dequantize_rows<DataType::kFloat16>(quantized, scales, values);
    case DataType::kBFloat16: return dequantize_rows<DataType::kBFloat16>(quantized, scales, values);
    default: return dequantize_rows<DataType::kFloat32>(quantized, scales, values);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tokenyard::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tokenyard {
namespace {

void check_values(const ConstTensorView& values) {
  check_matrix("values", values);
  check_dtype("values", values, {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16});
  check_dense_rows("values", values);
}

// What the quantized values of `values` and their scales must look like.
void check_quantized(const ConstTensorView& values, const ConstTensorView& quantized, const ConstTensorView& scales) {
  const std::int64_t num_rows = values.shape[0];
  const std::int64_t hidden = values.shape[1];
  check_matrix("quantized", quantized, num_rows, hidden);
  check_dtype("quantized", quantized, {DataType::kFloat8E4M3});
  check_dense_rows("quantized", quantized);
  check_matrix("scales (one per 128 values and row)", scales, num_rows, (hidden + kScaleBlock - 1) / kScaleBlock);
}

}  // namespace

namespace host {
namespace {

HWY_EXPORT(quantize_tensor);
HWY_EXPORT(dequantize_tensor);

}  // namespace
}  // namespace host

void quantize(ConstTensorView values, ScaleFormat format, TensorView quantized, TensorView scales) {
  check_values(values);
  check_quantized(values, quantized, scales);
  check_dtype("scales", scales, {format == ScaleFormat::kUE8M0 ? DataType::kUE8M0 : DataType::kFloat32});
  using namespace host;
  HWY_DYNAMIC_DISPATCH(quantize_tensor)(values, format, quantized, scales);
}

void dequantize(ConstTensorView quantized, ConstTensorView scales, TensorView values) {
  check_values(values);
  check_quantized(values, quantized, scales);
  check_dtype("scales", scales, {DataType::kFloat32, DataType::kUE8M0});
  using namespace host;
  HWY_DYNAMIC_DISPATCH(dequantize_tensor)(quantized, scales, values);
}

}  // namespace tokenyard
#endif
