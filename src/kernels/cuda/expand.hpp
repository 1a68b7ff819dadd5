// Copies received rows to where the plan's layout wants them. As kernels/host/expand.hpp, on a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// One lane. Pointers are to device memory; elements are aligned to their size.
struct ExpandArgs {
  const std::int64_t* num_rows = nullptr;  // N, on the device
  int top_k = 0;
  const std::int64_t* expanded_row = nullptr;  // [N, k]: row of the expert layout, or -1; null for the compact layout
  std::size_t row_bytes = 0;
  const std::byte* received = nullptr;  // dense rows
  // [rows, num_elements] or [experts, capacity, num_elements], whose rows are counted through. Rows or columns are dense.
  TensorView expanded{};
};

// Stream-ordered, capturable, as is zero_gaps.
void expand(const ExpandArgs& args, const Launch& launch);

// Zeroes the alignment gaps behind the groups of kExpertContiguous, as far as there are rows: experts may compute on them.
struct ZeroGapsArgs {
  int num_local_experts = 0;
  const std::int64_t* expert_counts = nullptr;
  const std::int64_t* expert_offsets = nullptr;
  TensorView expanded{};
};
void zero_gaps(const ZeroGapsArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
