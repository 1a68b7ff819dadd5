// Which rows a rank must receive, and where, by plain loops over everybody's top-k ids. Includes nothing of the library's
// workings.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/routing_source.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// One use of a received row: by the expert that the token's k-th choice names.
struct ExpectedPair {
  std::int32_t k = 0;
  std::int32_t local_expert = 0;
  std::int64_t position = -1;  // row of the expert layout, or -1 where the expert has no room; unused for the compact layout
};

struct ExpectedRow {
  std::int32_t source = 0;
  std::int32_t token = 0;
  std::int64_t first_pair = 0;
  std::int32_t num_pairs = 0;
};

// What one rank receives.
struct ExpectedRank {
  int first_expert = 0;  // this rank's experts are consecutive
  int num_local_experts = 0;
  std::vector<ExpectedRow> rows;  // in (source rank, token) order, as far as the slot has room
  std::vector<ExpectedPair> pairs;
  std::vector<std::int64_t> expert_counts;   // pairs that have a place
  std::vector<std::int64_t> expert_offsets;  // first row of each expert's group; one more for the end
  std::int64_t num_expanded_rows = 0;        // of the expert layout, gaps included; for the compact layout the received rows

  std::int64_t rows_from(int source) const;
};

// Experts lie contiguously, ceil(num_experts / num_ranks) per rank.
ExpectedRank expect_rank(const RoutingChoice& choice, const Shape& shape, int rank);

// The load of the busiest expert: with room for that many rows nothing is dropped.
std::int64_t busiest_expert_rows(const RoutingChoice& choice);

}  // namespace tokenyard::cli
