#include "cli/bench_expectation.hpp"

#include <algorithm>
#include <limits>

namespace tokenyard::cli {
namespace {

void collect_rows(const RoutingChoice& choice, std::int64_t capacity, ExpectedRank& expected) {
  const RoutingShape& shape = choice.shape;
  for (int source = 0; source < shape.num_ranks; ++source) {
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      const std::int64_t* ids = choice.ids(source, token);
      const auto first_pair = static_cast<std::int64_t>(expected.pairs.size());
      for (int k = 0; k < shape.top_k; ++k) {
        const std::int64_t local_expert = ids[k] - expected.first_expert;
        if (ids[k] < 0 || local_expert < 0 || local_expert >= expected.num_local_experts) continue;
        expected.pairs.push_back({.k = k, .local_expert = static_cast<std::int32_t>(local_expert)});
      }
      const auto num_pairs = static_cast<std::int32_t>(static_cast<std::int64_t>(expected.pairs.size()) - first_pair);
      if (num_pairs == 0) continue;
      if (static_cast<std::int64_t>(expected.rows.size()) == capacity) {
        expected.pairs.resize(static_cast<std::size_t>(first_pair));
        return;
      }
      expected.rows.push_back(
          {.source = source, .token = static_cast<std::int32_t>(token), .first_pair = first_pair, .num_pairs = num_pairs});
    }
  }
}

void place_pairs(const Shape& shape, ExpectedRank& expected) {
  expected.expert_counts.assign(static_cast<std::size_t>(expected.num_local_experts), 0);
  expected.expert_offsets.assign(static_cast<std::size_t>(expected.num_local_experts) + 1, 0);
  for (const ExpectedPair& pair : expected.pairs) ++expected.expert_counts[static_cast<std::size_t>(pair.local_expert)];
  for (std::size_t expert = 0; expert < expected.expert_counts.size(); ++expert) {
    std::int64_t group_rows =
        (expected.expert_counts[expert] + shape.expert_alignment - 1) / shape.expert_alignment * shape.expert_alignment;
    if (shape.layout == Layout::kExpertPadded) {
      group_rows = shape.expert_capacity;
      expected.expert_counts[expert] = std::min(expected.expert_counts[expert], shape.expert_capacity);
    }
    expected.expert_offsets[expert + 1] = expected.expert_offsets[expert] + group_rows;
  }
  std::vector<std::int64_t> num_placed(expected.expert_counts.size());
  for (ExpectedPair& pair : expected.pairs) {
    const auto expert = static_cast<std::size_t>(pair.local_expert);
    if (num_placed[expert] == expected.expert_counts[expert]) continue;
    pair.position = expected.expert_offsets[expert] + num_placed[expert]++;
  }
}

}  // namespace

std::int64_t ExpectedRank::rows_from(int source) const {
  return std::count_if(rows.begin(), rows.end(), [source](const ExpectedRow& row) { return row.source == source; });
}

ExpectedRank expect_rank(const RoutingChoice& choice, const Shape& shape, int rank) {
  const int experts_per_rank = (shape.num_experts + choice.shape.num_ranks - 1) / choice.shape.num_ranks;
  ExpectedRank expected;
  expected.first_expert = std::min(rank * experts_per_rank, shape.num_experts);
  expected.num_local_experts = std::min(experts_per_rank, shape.num_experts - expected.first_expert);
  const bool drops = shape.overflow == Overflow::kDrop && shape.recv_capacity > 0;
  collect_rows(choice, drops ? shape.recv_capacity : std::numeric_limits<std::int64_t>::max(), expected);
  place_pairs(shape, expected);
  expected.num_expanded_rows =
      shape.layout == Layout::kCompact ? static_cast<std::int64_t>(expected.rows.size()) : expected.expert_offsets.back();
  return expected;
}

std::int64_t busiest_expert_rows(const RoutingChoice& choice) {
  std::vector<std::int64_t> loads(static_cast<std::size_t>(choice.shape.num_experts));
  for (std::int64_t id : choice.topk_idx) {
    if (id >= 0) ++loads[static_cast<std::size_t>(id)];
  }
  return loads.empty() ? 0 : *std::max_element(loads.begin(), loads.end());
}

}  // namespace tokenyard::cli
