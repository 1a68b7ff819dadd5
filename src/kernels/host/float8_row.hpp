// A contribution on its way home as FP8: num_elements values, and behind them a float32 scale per 128 of them.
#pragma once

#include <array>
#include <cstddef>

#include "kernels/host/rows.hpp"
#include "kernels/host/sum.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::host {

struct Float8Row {
  std::size_t num_elements;

  std::byte* scale(std::byte* row, std::size_t element) const {
    return row + num_elements + element / kScaleBlock * sizeof(float);
  }

  // Writes elements [first, first + count) of `row`; `first` is a multiple of the block.
  void store(std::byte* row, const float* values, std::size_t first, std::size_t count) const {
    const auto columns = static_cast<std::int64_t>(count);
    quantize({values, DataType::kFloat32, {1, columns}}, ScaleFormat::kFloat32,
             {row + first, DataType::kFloat8E4M3, {1, columns}},
             {scale(row, first), DataType::kFloat32, {1, (columns + kScaleBlock - 1) / kScaleBlock}});
  }

  // sum += the elements, each times its scale in float32. At most kSumBlock elements.
  void add(float* sum, const std::byte* row, std::size_t first, std::size_t count) const {
    const auto columns = static_cast<std::int64_t>(count);
    alignas(64) std::array<float, kSumBlock> values;
    const std::byte* scales = row + num_elements + first / kScaleBlock * sizeof(float);
    dequantize({row + first, DataType::kFloat8E4M3, {1, columns}},
               {scales, DataType::kFloat32, {1, (columns + kScaleBlock - 1) / kScaleBlock}},
               {values.data(), DataType::kFloat32, {1, columns}});
    const auto* addends = reinterpret_cast<const std::byte*>(values.data());
    add_rows(sum, &addends, nullptr, 1, DataType::kFloat32, count);
  }
};

}  // namespace tokenyard::host
