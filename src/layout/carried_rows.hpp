// A combine whose contributions the copy engines of the ranks that hold them carry to the tokens' homes: where they come to,
// and in which order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout/pack_order.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard {

// A window that peers' copy engines write to: one per combine slot.
struct CarriedLayout {
  // u64 [Chunks::kMaxChunks, num_ranks]: for each chunk, in the column of the rank that carries it, the signal word of the turn
  // in which it has come.
  std::size_t arrivals;
  std::size_t rows;  // of each rank's block at its SentBlock::staged_row
  std::size_t num_bytes;
};

// Of the rows that a rank with so many tokens can send to others.
constexpr std::int64_t max_staged_rows(const PlanDimensions& dimensions, std::int64_t num_tokens) {
  return num_tokens * std::min(dimensions.max_fan_out, dimensions.num_ranks - 1);
}

constexpr CarriedLayout carried_layout(const PlanDimensions& dimensions, std::size_t row_bytes) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t arrival_bytes = Chunks::kMaxChunks * static_cast<std::size_t>(dimensions.num_ranks) * sizeof(std::uint64_t);
  CarriedLayout layout{};
  layout.rows = (arrival_bytes + kAlignment - 1) / kAlignment * kAlignment;
  layout.num_bytes = layout.rows + static_cast<std::size_t>(max_staged_rows(dimensions, dimensions.max_tokens)) * row_bytes;
  return layout;
}

// Chunks [first_chunk, end_chunk) of the block for `peer`.
struct CarryStep {
  int peer;
  int first_chunk;
  int end_chunk;
};

// Every rank begins with the one behind itself, as in a dispatch. Homes sum a token when the contributions of all ranks are
// there: so the last rank's block comes chunk by chunk, and where there are many ranks all come in two rounds, of which the
// first, of `num_first` chunks, is summed while the second comes.
inline std::vector<CarryStep> carry_order(int rank, int num_ranks, int num_chunks, int num_first) {
  constexpr int kMaxRanksOfOneRound = 4;
  std::vector<CarryStep> steps;
  const int num_peers = num_ranks - 1;
  for (int first = 0; num_peers > 0 && first < num_chunks;) {
    const int end = first == 0 && num_ranks > kMaxRanksOfOneRound ? num_first : num_chunks;
    for (int distance = 1; distance < num_peers; ++distance) steps.push_back({peer_at(rank, distance, num_ranks), first, end});
    for (int chunk = first; chunk < end; ++chunk) steps.push_back({peer_at(rank, num_peers, num_ranks), chunk, chunk + 1});
    first = end;
  }
  return steps;
}

}  // namespace tokenyard
