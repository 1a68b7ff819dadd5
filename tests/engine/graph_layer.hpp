// The layers that tests capture in CUDA graphs, and the inputs of their replays.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/routing.hpp"
#include "tests/support/random_bits.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::test::graphs {

inline constexpr int kNumInputs = 20;
inline constexpr int kTopK = 4;
inline constexpr int kNumExperts = 10;  // the last rank has fewer
inline constexpr std::int64_t kHidden = 64;
inline constexpr std::int64_t kMaxTokens = 16;

// Where the experts' outputs are when they are combined.
enum class Outputs { kElsewhere, kOverRows, kBorrowed };

struct Layer {
  const char* name;
  Layout layout;
  Outputs outputs = Outputs::kElsewhere;
  std::int64_t recv_capacity = 0;
  bool into_given_tensors = false;  // what dispatch delivers

  Shape shape() const {
    Shape shape;
    shape.num_experts = kNumExperts;
    shape.top_k = kTopK;
    shape.max_tokens = kMaxTokens;
    shape.lanes = {{DataType::kFloat32, kHidden}};
    shape.layout = layout;
    shape.overflow = Overflow::kDrop;
    shape.recv_capacity = recv_capacity;
    if (layout == Layout::kExpertContiguous) shape.expert_alignment = 4;
    return shape;
  }
};

inline constexpr Layer kCompact{.name = "compact", .layout = Layout::kCompact};
inline constexpr Layer kContiguous{.name = "contiguous", .layout = Layout::kExpertContiguous};

// Fewer on higher ranks.
constexpr std::int64_t num_tokens_of(int rank) { return kMaxTokens - 3 * rank; }

// Small integers, whose sums are exact.
constexpr float input_value(int rank, int input, std::int64_t token, std::int64_t column) {
  return static_cast<float>(((rank * kNumInputs + input) * kMaxTokens + token) * kHidden + column);
}

// What the ranks send in each of the inputs, and what must come of it.
class Inputs {
 public:
  Inputs(const Layer& layer, int num_ranks);

  bool is_compact() const { return layer_.layout == Layout::kCompact; }
  const std::vector<std::int64_t>& ids(int input, int rank) const { return sent_[input][rank].ids; }
  const reference::Arrived& arrived(int input, int rank) const { return routed_[input].at[rank]; }

  // How many rows a combine sums for a token.
  int num_terms(int input, int rank, std::int64_t token) const;

 private:
  Layer layer_;
  std::vector<std::vector<reference::Sent>> sent_;  // by input, then rank
  std::vector<reference::Routed> routed_;           // by input
};

// The input of a replay: the same on all ranks, and in another order than that of the inputs.
int input_of(int replay);

}  // namespace tokenyard::test::graphs
