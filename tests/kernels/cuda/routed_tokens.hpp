// Random routings, worked out by the host kernels: the oracle of what the CUDA kernels are given and must find out themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "layout/placement.hpp"
#include "layout/plan_layout.hpp"
#include "tests/support/random_bits.hpp"

namespace tokenyard::test {

// What one rank knows after count and place.
struct RoutedTokens {
  std::int64_t num_tokens = 0;
  std::vector<std::int64_t> ids;             // [T, k]
  std::vector<float> weights;                // [T, k]
  std::vector<std::int32_t> fan_out;         // [T]
  std::vector<std::int32_t> destination;     // [T, F]
  std::vector<std::int64_t> position;        // [T, F]: after count
  std::vector<std::int64_t> row;             // [T, F]: after place
  std::vector<std::int32_t> ordinal;         // [T, k]
  std::vector<std::int32_t> local_idx;       // [T, k]
  std::vector<std::int32_t> rank_counts;     // [R]
  std::vector<std::int32_t> expert_counts;   // [R, L]
  std::vector<std::int64_t> source_offsets;  // [R + 1]
};

// Shapes and what all ranks send. `shape.lanes` is left to the caller.
struct RoutedCase {
  Shape shape{};
  int num_ranks = 1;
  Placement placement;
  PlanDimensions dimensions{};
  std::int64_t capacity = 0;
  std::vector<std::int32_t> matrix{};  // [R, R]
  std::vector<RoutedTokens> ranks{};
};

struct CaseLimits {
  int max_ranks = 8;
  std::int64_t max_tokens = 300;
  int max_top_k = 12;
  int min_experts = 1;
  int max_experts = 64;
};

// `lanes` may depend on the same random numbers, so the caller draws them first.
RoutedCase make_routed_case(RandomBits& random, const std::vector<Lane>& lanes, const CaseLimits& limits = {});

// Rows of several parts in bulk, and short ones beside them that travel in groups.
std::vector<Lane> long_and_short_lanes(RandomBits& random);

// Calls host::count and host::place for all ranks.
void route(RoutedCase* routed);

// What travels with the N rows that a rank receives.
struct ReceivedTokens {
  std::int64_t num_rows = 0;
  std::vector<std::int32_t> topk_idx;      // [N, k]: local ids or -1
  std::vector<std::int32_t> source_token;  // [N]
  std::vector<std::int32_t> ordinal;       // [N]
};
ReceivedTokens received_by(const RoutedCase& routed, int rank);

}  // namespace tokenyard::test
