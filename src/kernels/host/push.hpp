// Third step of a dispatch: rows go straight to their final places at their destinations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/host/rows.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

struct PushArgs {
  std::span<const ConstTensorView> lanes;  // [T, num_elements] each
  const DispatchLayout* layout;
  Stores stores;
  std::span<std::byte* const> windows;  // every rank's dispatch window of the slot; null: that rank gets nothing
  std::int64_t num_tokens;
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;  // at the destination, -1 where dropped

  // What travels with a row; null in a cached dispatch, whose receivers know it.
  int top_k;
  const std::int32_t* ordinal;
  const std::int32_t* local_idx;
  ConstTensorView topk_weights;  // f32 [T, k], or empty
};

// After finish_copies(), a release makes the rows visible to whoever acquires it.
void push(const PushArgs& args);

}  // namespace tokenyard::host
