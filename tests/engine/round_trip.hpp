// A small layer whose right results are known by arithmetic: dispatch and combine with experts that change nothing.
//
// Rows are integers that tell rank, round, token and element, so the sum over the ranks that a token visited is exact.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "tests/support/residence.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::test {

inline constexpr int kTopK = 2;
inline constexpr std::int64_t kHidden = 8;
inline constexpr std::int64_t kMaxTokens = 16;

// float32, two experts per rank.
Shape small_shape(int num_ranks, Layout layout = Layout::kCompact);

// The same in latency mode.
Shape latency_shape(int num_ranks, Layout layout = Layout::kCompact);

// What one rank puts into a dispatch.
struct SmallInput {
  SmallInput(int rank, int num_ranks, int round, std::int64_t num_tokens = 10);

  DispatchArgs dispatch() const;                        // with top-k ids
  DispatchArgs dispatch(const Routing& routing) const;  // cached

  std::vector<float> rows;        // [num_tokens, kHidden]
  std::vector<std::int32_t> ids;  // [num_tokens, kTopK]
  std::vector<float> weights;     // [num_tokens, kTopK]; not in the arguments unless the caller adds them
  std::vector<ConstTensorView> lanes;
  std::int64_t num_tokens;
};

// Element `column` of a token.
float value_of(int rank, int round, std::int64_t token, std::int64_t column);

// What a result of the compact layout holds: the rows that the ranks sent in this round.
void expect_rows(const Received& received, int num_ranks, int round);
void expect_rows(const Received& received, int num_ranks, int round, Residence* residence);

// The combine of unchanged rows, and its expected output.
struct SmallOutput {
  explicit SmallOutput(const SmallInput& input);
  CombineArgs combine(const Routing& routing, const ConstTensorView& rows);
  void expect_sum(const SmallInput& input, int num_ranks) const { expect_sum_without(input, num_ranks, {}); }
  // Where `absent` ranks contributed nothing.
  void expect_sum_without(const SmallInput& input, int num_ranks, const std::set<int>& absent) const;

  std::vector<float> values;
  std::int64_t num_tokens;
};

// One dispatch and one combine (compact layout), checked. Collective.
void expect_round_trip(const Plan& plan, int rank, int num_ranks, int round);
void expect_round_trip(const Plan& plan, int rank, int num_ranks, int round, Residence* residence);

}  // namespace tokenyard::test
