// Second step of a dispatch: from everybody's counts, the rows that this rank writes to and the rows that it will receive. As
// kernels/host/place.hpp, on a device.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory; `totals` may also be to pinned host memory that the device can write.
struct PlaceArgs {
  const std::int32_t* rank_counts = nullptr;  // [R, R]: row i says how many rows rank i sends to each rank
  int rank = 0;
  int num_ranks = 1;
  std::int64_t capacity = 0;  // rows that a slot holds; rows beyond it are dropped

  // From `count`; positions become rows at the destination, -1 where dropped.
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  const std::int32_t* fan_out = nullptr;
  const std::int32_t* destination = nullptr;
  std::int64_t* row = nullptr;

  std::int64_t* source_offsets = nullptr;  // [R + 1]: rows [i, i + 1) of this rank's slot come from rank i
  // [2], or null: rows that this rank is sent (more than `capacity`, if some are dropped), and the most that any rank is sent.
  // Every rank finds the same second number, so all know together whether a slot is too small.
  std::int64_t* totals = nullptr;

  Handshake handshake{};  // its entry wait comes before rank_counts is read
  LaunchState* state = nullptr;
};

// Stream-ordered, capturable.
void place(const PlaceArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
