// Where received rows stand in an expert layout.
#pragma once

#include <cstdint>

#include "tokenyard/shape.hpp"

namespace tokenyard::host {

struct GroupByExpertArgs {
  Layout layout;  // kExpertContiguous or kExpertPadded
  int alignment;
  std::int64_t capacity;  // rows per expert; kExpertPadded
  int num_local_experts;
  std::int64_t num_rows;  // N
  int top_k;
  const std::int32_t* topk_idx;  // [N, k]: local ids or -1
  int num_ranks;
  const std::int64_t* source_offsets;  // [R + 1]: rows [i, i + 1) came from rank i

  std::int64_t* expert_counts;          // [L]: rows kept
  std::int64_t* expert_offsets;         // [L + 1]: first row of each group (in the padded layout: expert * capacity)
  std::int64_t* expanded_row;           // [N, k]: place in the expert layout, or -1
  std::int64_t* expert_source_offsets;  // [L, R + 1]: within a group, rows [i, i + 1) came from rank i
};

// Rows of an expert stand in (row, k) order, so in (source rank, token) order.
void group_by_expert(const GroupByExpertArgs& args);

}  // namespace tokenyard::host
