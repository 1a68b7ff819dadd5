// First half of a combine: this rank's contribution to each token that visited it, sent to the token's home. As
// kernels/host/fold.hpp, on a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory, but for the layout.
struct FoldArgs {
  DataType dtype = DataType::kBFloat16;  // float16, bfloat16, float32 or float64
  std::size_t row_bytes = 0;             // a multiple of 16
  bool as_float8 = false;                // contributions leave as FP8 with scales instead of in dtype, which is not float64
  std::size_t returned_row_bytes = 0;    // with as_float8: of a contribution on its way; otherwise it has row_bytes
  int num_ranks = 1;
  const std::int64_t* source_offsets = nullptr;  // [R + 1]
  const std::int32_t* source_token = nullptr;    // [N]
  const std::int32_t* ordinal = nullptr;         // [N]
  int max_fan_out = 0;                           // contribution (token, ordinal) goes to place token * F + ordinal
  int top_k = 0;
  const std::int64_t* expanded_row = nullptr;  // [N, k], or null for the compact layout, whose rows are the contributions

  const std::byte* rows = nullptr;  // dense, in the plan's layout; null: rows need not be sent. Fastest aligned to 16 bytes
  const float* factors = nullptr;   // of each row of the layout, or null
  int skip_source = -1;             // contributions to this rank's tokens are not sent, or -1

  const float* carried_weights = nullptr;  // compact: [N, k]; expert layouts: one per row of the layout; null: none
  const std::int32_t* topk_idx = nullptr;  // [N, k]; with carried_weights
  const CombineLayout* layout = nullptr;
  std::byte* const* windows = nullptr;  // [R]: every rank's combine window of the slot; null: that rank gets nothing

  Handshake handshake{};
  LaunchState* state = nullptr;
};

// Contributions are computed in float32 (float64 for float64), in top-k order, and rounded once. Stream-ordered, capturable.
void fold(const FoldArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
