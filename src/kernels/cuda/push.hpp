// Third step of a dispatch: rows go straight to their final places at their destinations. As kernels/host/push.hpp, on a
// device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/segments.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/plan_layout.hpp"
#include "layout/sent_block.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory, but for the span and the layout. Elements are aligned to their size.
struct PushArgs {
  std::span<const ConstTensorView> lanes{};  // [T, num_elements] each, any strides
  const DispatchLayout* layout = nullptr;
  std::byte* const* windows = nullptr;  // [R]: every rank's dispatch window of the slot; null: that rank gets nothing
  int rank = 0;
  int num_ranks = 1;
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  const std::int32_t* fan_out = nullptr;      // [T]
  const std::int32_t* destination = nullptr;  // [T, F]
  const std::int64_t* row = nullptr;          // [T, F]: at the destination, -1 where dropped

  // What travels with a row; null in a cached dispatch, whose receivers know it.
  int top_k = 0;
  const std::int32_t* ordinal = nullptr;    // [T, k]
  const std::int32_t* local_idx = nullptr;  // [T, k]
  ConstTensorView topk_weights{};           // f32 [T, k], or empty

  // With words: segments of rows are announced to the peers whose headers ask for that.
  Segments segments{};
  const SentBlock* sent = nullptr;  // [R], with `segments`

  // Not empty, one per lane: the rows that this rank receives are wanted there, and copied by the same launch while later ones
  // are still coming. See can_copy_out. This rank's header must have asked for segments. Rows behind the outputs' last are left
  // out; ids, weights and positions stay in the window. The handshake has an exit wait for `data`.
  std::span<const TensorView> outputs{};
  const std::int64_t* source_offsets = nullptr;  // [R + 1], with `outputs`: rows [i, i + 1) of the window come from rank i

  Handshake handshake{};
  LaunchState* state = nullptr;
};

// Whether push can copy rows to these tensors: dense ones, at multiples of 16 bytes.
bool can_copy_out(std::span<const TensorView> outputs);

// Stream-ordered, capturable. The entry wait comes before the first row for a peer.
void push(const PushArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
