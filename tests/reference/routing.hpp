// What a dispatch must deliver, worked out with plain loops from what all ranks send.
#pragma once

#include <cstdint>
#include <vector>

namespace reference {

enum class Arrangement {
  kCompact,     // one row per (token, rank), by source and token
  kContiguous,  // one row per (token, expert), expert after expert, each group rounded up to a multiple
  kPadded,      // a fixed number of rows per expert
};

// What all ranks know.
struct World {
  int num_ranks = 1;
  int num_experts = 1;
  int top_k = 1;
  std::vector<std::vector<int>> experts_of;  // by rank; empty: contiguous, ceil(num_experts / num_ranks) per rank
  Arrangement arrangement = Arrangement::kCompact;
  std::int64_t alignment = 1;        // kContiguous
  std::int64_t expert_capacity = 0;  // kPadded
  std::int64_t recv_capacity = -1;   // rows that a rank can receive; -1: any number
};

// What one rank sends.
struct Sent {
  std::int64_t num_tokens = 0;
  std::vector<std::int64_t> ids;  // [num_tokens, top_k]; -1: none
  std::vector<float> weights;     // [num_tokens, top_k], or empty
};

struct ReceivedRow {
  int source = 0;
  std::int64_t token = 0;
};

// What one rank receives. N rows, k = top-k, L experts.
struct Arrived {
  int num_experts = 0;
  std::vector<ReceivedRow> rows;
  std::vector<std::int64_t> source_offsets;  // [ranks + 1]
  std::vector<std::int64_t> local_expert;    // [N, k], -1: elsewhere
  std::vector<float> weights;                // [N, k], or empty
  std::vector<std::int64_t> expert_counts;   // [L]: (token, k) pairs that are in the result
  std::vector<std::int64_t> expert_dropped;  // [L]: pairs that are not, for want of room

  // Expert arrangements, of M rows.
  std::vector<std::int64_t> expert_offsets;      // [L + 1]
  std::vector<std::int64_t> place;               // [N, k]: the row of the arrangement, or -1
  std::vector<std::int64_t> copied_row;          // [M]: which of the N rows stands there, or -1
  std::vector<std::int64_t> place_tokens;        // [M]: the token at its source, or -1
  std::vector<std::int64_t> sources_of_experts;  // [L, ranks + 1]: rows [i, i + 1) of the expert's group came from rank i
  std::vector<float> place_weights;              // [M]: 0 where no row stands; empty without weights
};

// One rank that a token goes to. Ranks stand in ascending order.
struct Visit {
  int rank = 0;
  std::int64_t row = 0;        // among the received rows there, -1: dropped
  std::vector<bool> serves_k;  // which of the token's ids that rank serves
};

struct Routed {
  std::vector<Arrived> at;                              // by rank
  std::vector<std::vector<std::vector<Visit>>> visits;  // by source rank, then token
};

Routed route(const World& world, const std::vector<Sent>& sent);

}  // namespace reference
