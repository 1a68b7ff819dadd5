// What a plan in latency mode needs beside its windows, and what other layouts of the windows would need.
#pragma once

#include <cstdint>

#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// Bytes on one rank. With R ranks, E experts of which a rank has at most L, M max_tokens, k top-k, and rows of all lanes.
struct LatencyMemory {
  // Payload of the windows, both slots: 2 (R M dispatch rows + R M rows that combine returns).
  std::int64_t window_payload = 0;
  // The same with a place per (expert, source rank, token): 2 (L R M dispatch rows + E M rows that combine returns).
  std::int64_t payload_by_expert = 0;

  // Results of one slot, which lie outside of the windows. Rows per expert of the expert-padded one: as given, or R M, which
  // never drops.
  std::int64_t padded_capacity = 0;
  std::int64_t padded_result = 0;
  // The expert-contiguous one, gaps for the alignment included: when routing is balanced, and when all tokens of all ranks
  // choose as many experts of this rank as they can.
  std::int64_t contiguous_result = 0;
  std::int64_t worst_contiguous_result = 0;
};

LatencyMemory latency_memory(const Shape& shape, int num_ranks, const PlanSizes& sizes);

}  // namespace tokenyard::cli
