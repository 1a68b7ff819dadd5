// What a Routing tells of received rows: which tokens and experts they are, and where their copies stand in the expert layouts.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"

namespace tokenyard::cuda {

// Takes the metadata of received rows out of a dispatch window, whose memory the next dispatch will overwrite. Pointers are to
// device memory. N, the number of received rows, is source_offsets[R]: the host need not know it.
struct CollectRowsArgs {
  // The host knows it: N is num_view_rows, and all that was announced is among the rows. Nobody counts then, so neither
  // source_offsets nor workspace and state are needed.
  bool all_arrive = false;
  int top_k = 0;
  int num_local_experts = 0;
  int num_ranks = 1;
  const std::int64_t* source_offsets = nullptr;  // [R + 1]; N is at most num_view_rows

  // In the window; the weights may be null.
  const std::int32_t* received_topk_idx = nullptr;      // [N, k]
  const float* received_topk_weights = nullptr;         // [N, k]
  const std::int32_t* received_source_token = nullptr;  // [N]
  const std::int32_t* received_ordinal = nullptr;       // [N]

  // The same for the Routing's users: V = num_view_rows rows, of which those behind N are -1 (weights: 0). An id that is no
  // local expert's becomes -1, so that nothing behind can go astray.
  std::int64_t num_view_rows = 0;
  std::int32_t* topk_idx = nullptr;      // [V, k]
  float* topk_weights = nullptr;         // [V, k], or null
  std::int32_t* source_token = nullptr;  // [V]
  std::int32_t* ordinal = nullptr;       // [V]

  // The compact layout only: of the others group_by_expert counts what they keep. All null, or none.
  const std::int32_t* announced_counts = nullptr;  // [R, max_local_experts]: rows of each rank for this rank's experts
  int max_local_experts = 0;
  std::int64_t* expert_counts = nullptr;   // [L]: (row, k) pairs that arrived
  std::int64_t* expert_dropped = nullptr;  // [L]: those announced that did not
  std::int32_t* workspace = nullptr;       // [num_sms, L], any contents
  LaunchState* state = nullptr;
};

// One launch; stream-ordered, capturable.
void collect_rows(const CollectRowsArgs& args, const Launch& launch);

// What stands in each row of an expert layout; after group_by_expert, whose results it reads. Pointers are to device memory.
struct IndexExpandedArgs {
  int top_k = 0;
  int num_local_experts = 0;
  int num_ranks = 1;
  const std::int64_t* source_offsets = nullptr;  // [R + 1]
  const std::int32_t* source_token = nullptr;    // [N]
  const float* topk_weights = nullptr;           // [N, k]; with expanded_weights
  const std::int64_t* expert_counts = nullptr;   // [L]
  const std::int64_t* expert_offsets = nullptr;  // [L + 1]

  const std::int32_t* announced_counts = nullptr;  // [R, max_local_experts]
  int max_local_experts = 0;
  std::int64_t* expert_dropped = nullptr;  // [L]: pairs announced and not kept

  // [V, k]. Entries behind the N rows become -1, and so do those of places beyond the last expanded row, which only exist if
  // more rows came than were announced.
  std::int64_t num_view_rows = 0;
  std::int64_t* expanded_row = nullptr;

  // What has no row is -1 (weights: 0).
  std::int64_t num_expanded_view_rows = 0;        // V'
  std::int32_t* gather_idx = nullptr;             // [V']: received row
  std::int32_t* expanded_source_token = nullptr;  // [V']
  float* expanded_weights = nullptr;              // [V'], or null
};

// One launch; stream-ordered, capturable.
void index_expanded(const IndexExpandedArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
