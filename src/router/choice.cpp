#include "router/choice.hpp"

#include <algorithm>
#include <cstddef>

namespace tokenyard {
namespace {

// The indices of the `num_wanted` highest scores, highest first and ties by index; fewer if fewer are eligible.
void find_best(std::span<const float> scores, int num_wanted, std::vector<int>& found) {
  found.clear();
  for (int idx = 0; idx < static_cast<int>(scores.size()); ++idx) {
    const float score = scores[idx];
    const bool is_full = static_cast<int>(found.size()) == num_wanted;
    // Never true for NaN. A tie keeps what was found before, which has the lower index.
    if (!(score > (is_full ? scores[found.back()] : kIneligible))) continue;
    if (is_full) found.pop_back();
    const auto is_worse = [&](int other) { return score > scores[other]; };
    found.insert(std::find_if(found.begin(), found.end(), is_worse), idx);
  }
}

}  // namespace

Choice::Choice(const RouterOptions& options) : top_k_(options.top_k) {
  if (options.top_groups < options.num_groups) {
    Limit groups{.part_of_expert = std::vector<std::int32_t>(static_cast<std::size_t>(options.num_experts)),
                 .num_parts = options.num_groups,
                 .num_kept = options.top_groups};
    const int group_size = options.num_experts / options.num_groups;
    for (int expert = 0; expert < options.num_experts; ++expert) groups.part_of_expert[expert] = expert / group_size;
    limits_.push_back(std::move(groups));
  }
  if (!options.domain_of_expert.empty()) {
    const auto last = std::max_element(options.domain_of_expert.begin(), options.domain_of_expert.end());
    Limit domains{.part_of_expert = options.domain_of_expert, .num_parts = *last + 1, .num_kept = options.max_domains};
    if (domains.num_kept < domains.num_parts) limits_.push_back(std::move(domains));
  }
}

void Choice::apply(const Limit& limit, std::span<float> scores) {
  best_.assign(static_cast<std::size_t>(limit.num_parts), kIneligible);
  second_.assign(static_cast<std::size_t>(limit.num_parts), kIneligible);
  for (std::size_t expert = 0; expert < scores.size(); ++expert) {
    const float score = scores[expert];
    const std::int32_t part = limit.part_of_expert[expert];
    if (score > best_[part]) {
      second_[part] = best_[part];
      best_[part] = score;
    } else if (score > second_[part]) {
      second_[part] = score;
    }
  }
  std::vector<float>& sums = best_;
  for (int part = 0; part < limit.num_parts; ++part) {
    if (second_[part] > kIneligible) sums[part] += second_[part];
  }
  find_best(sums, limit.num_kept, chosen_);
  is_kept_.assign(static_cast<std::size_t>(limit.num_parts), 0);
  for (const int part : chosen_) is_kept_[part] = 1;
  for (std::size_t expert = 0; expert < scores.size(); ++expert) {
    if (is_kept_[limit.part_of_expert[expert]] == 0) scores[expert] = kIneligible;
  }
}

std::span<const int> Choice::choose(std::span<float> scores) {
  for (const Limit& limit : limits_) apply(limit, scores);
  find_best(scores, top_k_, chosen_);
  return chosen_;
}

}  // namespace tokenyard
