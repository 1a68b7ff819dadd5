// A Routing's contents in the memory of a GPU: where each array lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "layout/sent_block.hpp"

namespace tokenyard {

// T: max_tokens, F: max_fan_out, k: top-k, R: ranks, L: max_local_experts; V rows and V' expanded rows, of the public views.
struct DeviceRouting {
  // As a source; kernels/host/count.hpp.
  std::int32_t* fan_out = nullptr;      // [T]
  std::int32_t* destination = nullptr;  // [T, F]
  std::int64_t* row = nullptr;          // [T, F]
  std::int32_t* ordinal = nullptr;      // [T, k]
  std::int32_t* local_idx = nullptr;    // [T, k]

  // As a receiver.
  std::int64_t* source_offsets = nullptr;         // [R + 1]
  std::int32_t* source_token = nullptr;           // [V]
  std::int32_t* recv_ordinal = nullptr;           // [V]
  std::int32_t* topk_idx = nullptr;               // [V, k]
  float* topk_weights = nullptr;                  // [V, k]
  std::int64_t* expert_counts = nullptr;          // [L]
  std::int64_t* expert_dropped = nullptr;         // [L]
  std::int64_t* expert_offsets = nullptr;         // [L + 1]
  std::int64_t* expert_source_offsets = nullptr;  // [L, R + 1]
  std::int64_t* expanded_row = nullptr;           // [V, k]
  std::int32_t* gather_idx = nullptr;             // [V']
  std::int32_t* expanded_source_token = nullptr;  // [V']
  float* expanded_weights = nullptr;              // [V']

  SentBlock* sent = nullptr;  // [R]

  std::uint64_t* id = nullptr;  // equal on all ranks, different for every dispatch of the group

  std::shared_ptr<void> memory{};  // that all of these lie in, as engine/cuda keeps it

  // Numbers that the host may not know. They wait until the GPU has finished the dispatch, but at most for the group's
  // timeout.
  std::function<std::int64_t()> fetch_num_recv_rows{};
  std::function<std::int64_t()> fetch_num_expanded_rows{};
  std::function<std::int64_t()> fetch_num_dropped{};
};

}  // namespace tokenyard
