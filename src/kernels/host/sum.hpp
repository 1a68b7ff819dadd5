// Sums of rows, block by block: the partial sums stay in the first cache while all terms of a block are added.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/host/rows.hpp"

namespace tokenyard::host {

// Float64 rows are summed in float64, all others in float32. These give the two the same shape.
template <class Sum>
void add_to(Sum* sum, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
            std::size_t num_elements) {
  if constexpr (std::is_same_v<Sum, double>) {
    add_rows(sum, rows, factors, num_rows, num_elements);
  } else {
    add_rows(sum, rows, factors, num_rows, dtype, num_elements);
  }
}

template <class Sum>
void round_to(std::byte* row, DataType dtype, const Sum* sum, std::size_t num_elements, Stores stores) {
  if constexpr (std::is_same_v<Sum, double>) {
    round_row(row, sum, num_elements, stores);
  } else {
    round_row(row, dtype, sum, num_elements, stores);
  }
}

// Per block of a row: zeros, plus what add_terms(sum, first element, elements) adds, go to store(sum, first element, elements).
// Blocks begin at multiples of kSumBlock.
inline constexpr std::size_t kSumBlock = 1024;
template <class Sum, class AddTerms, class Store>
void sum_blocks(std::size_t num_elements, AddTerms&& add_terms, Store&& store) {
  alignas(64) std::array<Sum, kSumBlock> sum;
  for (std::size_t first = 0; first < num_elements; first += kSumBlock) {
    const std::size_t block_elements = std::min(kSumBlock, num_elements - first);
    std::fill_n(sum.begin(), block_elements, Sum{0});
    add_terms(sum.data(), first, block_elements);
    store(sum.data(), first, block_elements);
  }
}

}  // namespace tokenyard::host
