// First half of a combine: this rank's contribution to each token that visited it, sent to the token's home.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/host/rows.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

struct FoldArgs {
  DataType dtype;
  std::size_t row_bytes;
  Stores stores;
  std::size_t returned_row_bytes;
  bool as_float8;  // contributions leave as FP8 with scales instead of in dtype; see float8_row.hpp
  int num_ranks;
  const std::int64_t* source_offsets;  // [R + 1]
  const std::int32_t* source_token;    // [N]
  const std::int32_t* ordinal;         // [N]
  int top_k;
  const std::int64_t* expanded_row;  // [N, k], or null for the compact layout, whose rows are the contributions

  const std::byte* rows;  // dense, in the plan's layout; null: rows need not be sent (they are read in place)
  // Factor of each row of the layout. A row without a factor is the same as one with the factor 1.
  const float* factors;
  int skip_source;  // contributions to this rank's tokens are not sent, or -1

  const float* carried_weights;  // compact: [N, k]; expert layouts: one per row of the layout; null: none
  const std::int32_t* topk_idx;  // [N, k]; with carried_weights
  int rank;                      // this one
  ReturnPlaces places;
  const CombineLayout* layout;
  std::span<std::byte* const> windows;  // every rank's combine window of the slot; null: that rank gets nothing
};

// Contributions are computed in float32 (float64 for float64), in top-k order, and rounded once. After finish_copies(), a
// release makes them visible to whoever acquires it.
void fold(const FoldArgs& args);

}  // namespace tokenyard::host
