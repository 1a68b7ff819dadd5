// First step of a dispatch: who gets how many of this rank's tokens, and each token's position among those sent to one rank. As
// kernels/host/count.hpp, on a device; and all ranks are told.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/placement.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// The placement table on the device: replica i of expert e is replicas[first_replica[e] + i].
struct PlacementView {
  int num_experts = 0;
  const Replica* replicas = nullptr;            // by expert, then rank, then local index
  const std::int32_t* first_replica = nullptr;  // [E + 1]
};

// Positions are worked out for chunks of so many tokens, each by itself.
int count_chunk_tokens(int top_k);
std::int64_t count_chunks(std::int64_t num_tokens, int top_k);

// T tokens, k = top-k, F = max_fan_out, R ranks, L = max_local_experts, C = count_chunks(). Pointers are to device memory.
struct CountArgs {
  ConstTensorView topk_idx{};  // i32 or i64 [T, k], any strides
  PlacementView placement{};
  int rank = 0;
  int num_ranks = 1;
  int max_fan_out = 0;
  int max_local_experts = 0;

  std::int32_t* fan_out = nullptr;      // [T]
  std::int32_t* destination = nullptr;  // [T, F]
  std::int32_t* ordinal = nullptr;      // [T, k]
  std::int32_t* local_idx = nullptr;    // [T, k]
  // A token's position among this rank's tokens for a destination is the sum of the two.
  std::int64_t* row = nullptr;              // [T, F]: position among those of its chunk
  std::int32_t* chunk_positions = nullptr;  // [R, C]: where those of the chunk begin

  // [R]: every rank's matrices, those of this rank among them; null for ranks that take no part. Rank counts are [R, R]: row i
  // says how many rows rank i sends to each rank; expert counts [R, L]: how many to each expert of the matrix's owner. This
  // rank's rows of all are written; or both null, if they have been.
  std::int32_t* const* rank_counts = nullptr;
  std::int32_t* const* expert_counts = nullptr;
  Handshake handshake{};  // its entry post comes behind the counts. What else it says is left to `place`

  // An id that is neither -1 nor an expert counts as -1. If the handshake has signals, it is a failure of this rank,
  // kInvalidArgument in dispatch/counts, of which all are told; it neither tells its counts nor enters.

  std::byte* workspace = nullptr;  // count_workspace_bytes(), zero at first; launches that share it must not overlap
};

std::size_t count_workspace_bytes(int num_ranks, int max_local_experts);

// Stream-ordered, capturable; the results depend on nothing but the ids and the placement.
void count(const CountArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
