// Copies received rows to where the plan's layout wants them: in expert layouts once per local expert that the token chose.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/host/rows.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

// One lane.
struct ExpandArgs {
  std::int64_t num_rows;  // N
  int top_k;
  const std::int64_t* expanded_row;  // [N, k]: row of the expert layout, or -1; null for the compact layout (row n stays row n)
  const std::int64_t* received_row;  // [N]: where row n was received; null: at n
  Stores stores;
  std::size_t row_bytes;
  const std::byte* received;  // dense rows
  // [rows, num_elements] or [experts, capacity, num_elements], whose rows are counted through. Rows or columns are dense.
  TensorView expanded;
};
void expand(const ExpandArgs& args);

// Zeroes the alignment gaps behind the groups of kExpertContiguous: experts may compute on them.
struct ZeroGapsArgs {
  int num_local_experts;
  const std::int64_t* expert_counts;
  const std::int64_t* expert_offsets;
  TensorView expanded;
};
void zero_gaps(const ZeroGapsArgs& args);

}  // namespace tokenyard::host
