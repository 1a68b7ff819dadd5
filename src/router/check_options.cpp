#include "router/check_options.hpp"

#include <cmath>
#include <cstddef>

#include "base/fail.hpp"
#include "router/choice.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {
namespace {

void check_range(const char* name, int value, int least, int most) {
  if (value < least || value > most) fail_argument("{} is {}, but must be {} to {}", name, value, least, most);
}

void check_length(const char* name, std::size_t length, int num_experts) {
  if (length != static_cast<std::size_t>(num_experts)) {
    fail_argument("{} has {} entries for {} experts; give one per expert, or none", name, length, num_experts);
  }
}

void check_bias(const RouterOptions& options) {
  if (options.correction_bias.empty()) return;
  check_length("correction_bias", options.correction_bias.size(), options.num_experts);
  for (int expert = 0; expert < options.num_experts; ++expert) {
    const float bias = options.correction_bias[expert];
    if (!std::isfinite(bias) && bias != kIneligible) {
      fail_argument("correction_bias[{}] is {}, but must be finite, or -inf to rule the expert out", expert, bias);
    }
  }
}

void check_groups(const RouterOptions& options) {
  check_range("num_groups", options.num_groups, 1, options.num_experts);
  if (options.num_experts % options.num_groups != 0) {
    fail_argument("{} experts do not divide into {} equal groups", options.num_experts, options.num_groups);
  }
  check_range("top_groups", options.top_groups, 1, options.num_groups);
  const int num_candidates = options.num_experts / options.num_groups * options.top_groups;
  if (options.top_k > num_candidates) {
    fail_argument("top_k is {}, but {} of {} groups hold only {} of the {} experts", options.top_k, options.top_groups,
                  options.num_groups, num_candidates, options.num_experts);
  }
}

void check_domains(const RouterOptions& options) {
  if (options.domain_of_expert.empty()) {
    if (options.max_domains != 0) {
      fail_argument("max_domains is {} without domain_of_expert; give both or neither", options.max_domains);
    }
    return;
  }
  check_length("domain_of_expert", options.domain_of_expert.size(), options.num_experts);
  check_range("max_domains (of the given domain_of_expert)", options.max_domains, 1, kMaxRanks);
  for (int expert = 0; expert < options.num_experts; ++expert) {
    const std::int32_t domain = options.domain_of_expert[expert];
    if (domain < 0 || domain >= kMaxRanks) {
      fail_argument("domain_of_expert[{}] is {}, but must be 0 to {}", expert, domain, kMaxRanks - 1);
    }
  }
}

}  // namespace

void check_options(const RouterOptions& options) {
  check_range("num_experts", options.num_experts, 1, kMaxExperts);
  check_range("top_k", options.top_k, 1, kMaxTopK);
  check_groups(options);
  check_bias(options);
  check_domains(options);
  if (!std::isfinite(options.scale)) fail_argument("scale is {}, but must be finite", options.scale);
}

}  // namespace tokenyard
