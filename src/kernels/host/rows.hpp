// What is done to one row of a tensor: copied, added, rounded. Vectorised for the processor at hand; equal bits on all of them.
// Rows may lie at any address; copying and rounding are fastest to a multiple of 64 bytes.
#pragma once

#include <cstddef>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

// Copies past the caches where that pays. A release of the copied bytes must be preceded by finish_copies() of the same thread:
// the stores that bypass the caches are not ordered by a release alone.
void copy_row(std::byte* destination, const std::byte* source, std::size_t num_bytes);
void finish_copies();

// sum[i] += row[i], or sum[i] += row[i] * factor (multiply, round, then add). dtype: float16, bfloat16 or float32. A sum that
// is NaN may be any NaN until round_row.
void add_row(float* sum, const std::byte* row, DataType dtype, std::size_t num_elements);
void add_scaled_row(float* sum, const std::byte* row, DataType dtype, std::size_t num_elements, float factor);

// row[i] = sum[i] rounded to nearest even in dtype; NaNs become the canonical one. Same ordering rule as copy_row.
void round_row(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements);

// The same for float64 rows, which are summed in float64.
void add_row(double* sum, const std::byte* row, std::size_t num_elements);
void add_scaled_row(double* sum, const std::byte* row, std::size_t num_elements, double factor);
void round_row(std::byte* row, const double* sum, std::size_t num_elements);

}  // namespace tokenyard::host
