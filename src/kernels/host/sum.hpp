// Sums of rows, block by block: the partial sums stay in the first cache while all terms of a block are added.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/host/rows.hpp"

namespace tokenyard::host {

// Float64 rows are summed in float64, all others in float32. These give the two the same shape.
template <class Sum>
void add_to(Sum* sum, const std::byte* row, DataType dtype, std::size_t num_elements) {
  if constexpr (std::is_same_v<Sum, double>) {
    add_row(sum, row, num_elements);
  } else {
    add_row(sum, row, dtype, num_elements);
  }
}

template <class Sum>
void add_scaled_to(Sum* sum, const std::byte* row, DataType dtype, std::size_t num_elements, float factor) {
  if constexpr (std::is_same_v<Sum, double>) {
    add_scaled_row(sum, row, num_elements, static_cast<double>(factor));
  } else {
    add_scaled_row(sum, row, dtype, num_elements, factor);
  }
}

template <class Sum>
void round_to(std::byte* row, DataType dtype, const Sum* sum, std::size_t num_elements) {
  if constexpr (std::is_same_v<Sum, double>) {
    round_row(row, sum, num_elements);
  } else {
    round_row(row, dtype, sum, num_elements);
  }
}

// target = rounded sum of what add_terms(sum, byte offset of the block, elements in the block) adds to zeros.
template <class Sum, class AddTerms>
void sum_blocks(DataType dtype, std::size_t row_bytes, std::byte* target, AddTerms&& add_terms) {
  constexpr std::size_t kBlockElements = 1024;
  alignas(64) std::array<Sum, kBlockElements> sum;
  const std::size_t element_bytes = size_of(dtype);
  const std::size_t num_elements = row_bytes / element_bytes;
  for (std::size_t begin = 0; begin < num_elements; begin += kBlockElements) {
    const std::size_t block_elements = std::min(kBlockElements, num_elements - begin);
    std::fill_n(sum.begin(), block_elements, Sum{0});
    add_terms(sum.data(), begin * element_bytes, block_elements);
    round_to<Sum>(target + begin * element_bytes, dtype, sum.data(), block_elements);
  }
}

}  // namespace tokenyard::host
