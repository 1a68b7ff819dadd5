// Random cases: a shape, what the ranks send, and the calls that they make. Everything follows from a seed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/random_bits.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::test {

// What all ranks send in a dispatch, apart from the rows' contents.
struct TokenSet {
  std::vector<std::int64_t> num_tokens;        // by rank
  std::vector<std::vector<std::int64_t>> ids;  // by rank: [num_tokens, top_k]
  std::vector<std::vector<float>> weights;     // by rank: [num_tokens, top_k]; empty: none travel
};

enum class Call { kDispatch, kCachedDispatch, kCombine, kComplete, kRelease, kPlace };

// One call that every rank makes. What ranks may do differently (strides, whose memory results lie in, factors) follows from
// the seed and the rank.
struct Step {
  Call call = Call::kDispatch;
  int plan = 0;
  std::uint64_t seed = 0;        // of the rows' contents too: equal seeds, equal calls
  int slot = -1;                 // as passed
  int token_set = 0;             // kDispatch
  int placement = 0;             // kPlace, and the one in force for dispatches
  int result = -1;               // that the step makes (dispatches), takes its Routing from (kCombine), or releases
  int routing_of = -1;           // kCachedDispatch: the result whose Routing is used
  int slot_used = 0;             // dispatches: where results lie, if they lie in a slot
  bool carries_weights = false;  // kCombine
  bool gives_weights = false;    // kCombine: the tokens' homes give the factors
  int pending = -1;              // of a dispatch or combine that is only begun; kComplete: which of them
};

struct Case {
  std::uint64_t seed = 0;
  int num_ranks = 1;
  // One plan, or two that route alike and differ in their lanes.
  std::vector<Shape> shapes;
  std::vector<PlacementTable> placements;  // the first is the shapes' own
  std::vector<TokenSet> token_sets;
  std::vector<Step> steps;
  int num_results = 0;
  bool shake = false;              // with delays before signals and waits
  bool spin = false;               // with the group's own way of waiting; otherwise ranks yield, which suits crowded machines
  bool drops_plans_first = false;  // lets go of the plans before the results
};

struct CaseOptions {
  std::optional<int> num_ranks{};  // unset: any number up to max_num_ranks
  int max_num_ranks = 64;
  // 0: a few calls on tensors of any size. Otherwise about so many calls, on small tensors.
  int num_calls = 0;
  std::optional<Mode> mode{};  // unset: any
  bool uses_float8 = true;     // quantises, and returns contributions as float8, now and then
};

// `index` decides which extremes the case has to reach: among any 64 consecutive ones all of them turn up.
Case make_random_case(std::uint64_t seed, int index, const CaseOptions& options = {});

// All that one needs to know to understand a failure: shape, placement, tokens and calls.
std::string describe(const Case& random_case);
std::string describe(const Step& step);

}  // namespace tokenyard::test
