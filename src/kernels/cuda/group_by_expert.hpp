// Where received rows stand in an expert layout. As kernels/host/group_by_expert.hpp, on a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory. N, the number of received rows, is source_offsets[R]: the host need not know it.
struct GroupByExpertArgs {
  Layout layout = Layout::kExpertContiguous;  // or kExpertPadded
  int alignment = 1;
  std::int64_t capacity = 0;  // rows per expert; kExpertPadded
  int num_local_experts = 0;
  int top_k = 0;
  const std::int32_t* topk_idx = nullptr;  // [N, k]: local ids or -1
  int num_ranks = 1;
  const std::int64_t* source_offsets = nullptr;  // [R + 1]: rows [i, i + 1) came from rank i

  std::int64_t* expert_counts = nullptr;          // [L]: rows kept
  std::int64_t* expert_offsets = nullptr;         // [L + 1]: first row of each group (in the padded layout: expert * capacity)
  std::int64_t* expanded_row = nullptr;           // [N, k]: place in the expert layout, or -1
  std::int64_t* expert_source_offsets = nullptr;  // [L, R + 1]: within a group, rows [i, i + 1) came from rank i

  std::int32_t* workspace = nullptr;  // [num_sms, L], any contents
};

// Rows of an expert stand in (row, k) order, so in (source rank, token) order. Two launches; stream-ordered, capturable. A
// block keeps at least 20 bytes per local expert in shared memory: the most experts that a shape may have fit on every GPU.
void group_by_expert(const GroupByExpertArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
