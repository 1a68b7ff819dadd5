// Second step of a dispatch: from everybody's counts, the rows that this rank writes to and the rows that it will receive. As
// kernels/host/place.hpp, on a device.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

// What the host is told about a dispatch, in pinned memory. `ticket` is written last.
struct PlaceTotals {
  std::int64_t num_recv_rows;      // that this rank is sent: more than the capacity, if some are dropped
  std::int64_t max_recv_rows;      // the most that any rank is sent. Every rank finds the same number
  std::int64_t num_expanded_rows;  // of the experts' groups as announced, each aligned; 0 without an alignment
  std::uint64_t ticket;
};

// Pointers are to device memory.
struct PlaceArgs {
  // This rank's matrices, as `count` of all ranks has left them.
  const std::int32_t* rank_counts = nullptr;    // [R, R]
  const std::int32_t* expert_counts = nullptr;  // [R, max_local_experts]
  int max_local_experts = 0;
  int rank = 0;
  int num_ranks = 1;
  std::int64_t capacity = 0;  // rows that a slot holds; rows beyond it are dropped

  // From `count`; positions become rows at the destination, -1 where dropped.
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  const std::int32_t* fan_out = nullptr;
  const std::int32_t* destination = nullptr;
  std::int64_t* row = nullptr;
  const std::int32_t* chunk_positions = nullptr;
  int chunk_tokens = 1;  // count_chunk_tokens()

  std::int64_t* source_offsets = nullptr;  // [R + 1]: rows [i, i + 1) of this rank's slot come from rank i
  // All rows have to fit the capacity. If any rank is sent more, the positions stay as they are, and the gate is closed.
  bool must_fit = false;
  std::uint32_t* gate = nullptr;  // 1 if rows may be pushed, otherwise 0; or null

  // [R, max_local_experts], or null: a copy of this rank's expert counts for the kernels behind. A peer may begin the next
  // turn, and announce its counts in the matrix, before they have run.
  std::int32_t* announced_counts = nullptr;

  int num_local_experts = 0;
  int expert_alignment = 0;       // of kExpertContiguous; 0: another layout, and nobody asks for num_expanded_rows
  PlaceTotals* totals = nullptr;  // pinned, or null
  std::uint64_t ticket = 0;

  // [R], or null: where this rank's rows stand at each destination, and how many are not dropped; the second one pinned,
  // written before the totals.
  SentBlock* sent = nullptr;
  SentBlock* host_sent = nullptr;
  // [R], or null, pinned as well: what each rank says so of the rows that it sends to this one. Only with must_fit.
  SentBlock* host_received = nullptr;

  // A number that all ranks give to this dispatch and to no other of the group (layout/signal_word.hpp); or null.
  std::uint64_t* routing_id = nullptr;
  std::uint64_t routing_slot = 0;  // the slot's number among those of all plans

  Handshake handshake{};  // its entry wait comes before the matrices are read. What it posts is left to `count`
};

// Stream-ordered, capturable.
void place(const PlaceArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
