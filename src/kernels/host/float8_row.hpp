// A contribution on its way home as FP8: num_elements values, and behind them a float32 scale per 128 of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/host/rows.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::host {

// Such rows are summed block by block: the partial sums stay in the first cache while all terms of a block are added. Calls
// sum_block(zeros to add to, first element, elements); blocks begin at multiples of kSumBlock.
inline constexpr std::size_t kSumBlock = 1024;
template <class SumBlock>
void sum_blocks(std::size_t num_elements, SumBlock&& sum_block) {
  alignas(64) std::array<float, kSumBlock> sum;
  for (std::size_t first = 0; first < num_elements; first += kSumBlock) {
    const std::size_t num_block_elements = std::min(kSumBlock, num_elements - first);
    std::fill_n(sum.begin(), num_block_elements, 0.0F);
    sum_block(sum.data(), first, num_block_elements);
  }
}

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
