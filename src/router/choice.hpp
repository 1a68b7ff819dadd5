// Which experts a token goes to, given their scores.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "tokenyard/router.hpp"

namespace tokenyard {

// The score of what cannot be chosen.
inline constexpr float kIneligible = -std::numeric_limits<float>::infinity();

// Scratch space for one thread; made once per call, used for every token.
class Choice {
 public:
  explicit Choice(const RouterOptions& options);

  // The chosen experts, best first, at most top_k; valid until the next call. `scores` are those that count for the choice, one
  // per expert; kIneligible and NaN are never chosen. Overwrites the scores of experts that the limits rule out.
  std::span<const int> choose(std::span<float> scores);

 private:
  // A division of the experts into parts, of which only the best take part.
  struct Limit {
    std::vector<std::int32_t> part_of_expert;
    int num_parts = 0;
    int num_kept = 0;
  };

  void apply(const Limit& limit, std::span<float> scores);

  int top_k_;
  std::vector<Limit> limits_;  // in the order in which they apply
  std::vector<float> best_;    // per part: best score, then the second best
  std::vector<float> second_;
  std::vector<char> is_kept_;
  std::vector<int> chosen_;
};

}  // namespace tokenyard
