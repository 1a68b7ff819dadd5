// What is done to one row of a tensor: copied, added, rounded. Vectorised for the processor at hand; equal bits on all of them.
// Rows may lie at any address; copying and rounding are fastest to a multiple of 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

// Where stored bytes go. Streamed ones pass the caches by: a third less memory traffic for what is larger than the caches
// anyway. What the next reader could still find in a cache it should be left.
enum class Stores : std::uint8_t { kStreamed, kCached };
inline constexpr std::size_t kMinStreamedBytes = 4 << 20;  // per call; some caches' worth
constexpr Stores stores_for(std::size_t num_bytes) {
  return num_bytes < kMinStreamedBytes ? Stores::kCached : Stores::kStreamed;
}

// A release of the copied bytes must be preceded by finish_copies() of the same thread: streamed stores are not ordered by a
// release alone.
void copy_row(std::byte* destination, const std::byte* source, std::size_t num_bytes, Stores stores = Stores::kStreamed);
void finish_copies();

// row[i] = rows[0][i] + rows[1][i] and so on, from the left, beginning with zero, in float32 (float64 for float64), rounded to
// nearest even; with factors rows[r][i] * factors[r], rounded before it is added. NaNs become the canonical one. dtype, of all
// rows: float16, bfloat16, float32 or float64. `row` may be one of `rows`. Same ordering rule as copy_row.
void sum_rows(std::byte* row, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
              std::size_t num_elements, Stores stores = Stores::kStreamed);

// The same in two steps, for contributions that are not of a type that sum_rows knows: sum[i] += rows[0][i], then rows[1][i]
// and so on, not for float64. A sum that is NaN may be any NaN until round_row.
void add_rows(float* sum, const std::byte* const* rows, const float* factors, int num_rows, DataType dtype,
              std::size_t num_elements);
void round_row(std::byte* row, DataType dtype, const float* sum, std::size_t num_elements);

}  // namespace tokenyard::host
