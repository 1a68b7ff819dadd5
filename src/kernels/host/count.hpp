// First step of a dispatch: who gets how many of this rank's tokens, and each token's position among those sent to one rank.
#pragma once

#include <cstdint>

#include "layout/placement.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

// T tokens, k = top-k, F = max_fan_out, R ranks, L = max_local_experts.
struct CountArgs {
  ConstTensorView topk_idx;  // i32 or i64 [T, k]
  const Placement* placement;
  int rank;
  int max_fan_out;
  int max_local_experts;

  std::int32_t* fan_out;        // [T]: ranks that the token visits
  std::int32_t* destination;    // [T, F]: those ranks, ascending; the token's place in this list is the rank's ordinal
  std::int64_t* row;            // [T, F]: position among this rank's tokens for that destination
  std::int32_t* ordinal;        // [T, k]: ordinal of the rank that serves the id, -1 for ids of -1
  std::int32_t* local_idx;      // [T, k]: the expert's number there, -1 for ids of -1
  std::int32_t* rank_counts;    // [R]: rows for each rank
  std::int32_t* expert_counts;  // [R, L]: (token, k) pairs for each rank's experts
};

// Throws Error(kInvalidArgument) naming token and id when an id is neither -1 nor an expert; the outputs are then unspecified.
void count(const CountArgs& args);

}  // namespace tokenyard::host
