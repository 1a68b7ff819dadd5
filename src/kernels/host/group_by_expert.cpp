#include "kernels/host/group_by_expert.hpp"

#include <algorithm>

#include "base/hooks.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard::host {

void group_by_expert(const GroupByExpertArgs& args) {
  const std::int64_t num_pairs = args.num_rows * args.top_k;
  std::fill_n(args.expert_counts, args.num_local_experts, 0);
  for (std::int64_t pair = 0; pair < num_pairs; ++pair) {
    if (args.topk_idx[pair] >= 0) ++args.expert_counts[args.topk_idx[pair]];
  }

  const int alignment = has_fault(Fault::kExpandIgnoresAlignment) ? 1 : args.alignment;
  args.expert_offsets[0] = 0;
  for (int expert = 0; expert < args.num_local_experts; ++expert) {
    std::int64_t& num_kept = args.expert_counts[expert];
    std::int64_t group_rows = num_kept;
    if (args.layout == Layout::kExpertPadded) {
      num_kept = std::min(num_kept, args.capacity);
      group_rows = args.capacity;
    } else if (args.layout == Layout::kExpertContiguous) {
      group_rows = aligned_rows(num_kept, alignment);
    }
    args.expert_offsets[expert + 1] = args.expert_offsets[expert] + group_rows;
  }

  // The last of an expert's offsets counts its rows as they are placed, and so ends as their number.
  const int num_offsets = args.num_ranks + 1;
  const auto num_placed = [&](int expert) -> std::int64_t& {
    return args.expert_source_offsets[expert * num_offsets + args.num_ranks];
  };
  for (int expert = 0; expert < args.num_local_experts; ++expert) num_placed(expert) = 0;
  for (int source = 0; source < args.num_ranks; ++source) {
    for (int expert = 0; expert < args.num_local_experts; ++expert) {
      args.expert_source_offsets[expert * num_offsets + source] = num_placed(expert);
    }
    const std::int64_t end = args.source_offsets[source + 1] * args.top_k;
    for (std::int64_t pair = args.source_offsets[source] * args.top_k; pair < end; ++pair) {
      const std::int32_t expert = args.topk_idx[pair];
      const bool is_kept = expert >= 0 && num_placed(expert) < args.expert_counts[expert];
      args.expanded_row[pair] = is_kept ? args.expert_offsets[expert] + num_placed(expert)++ : -1;
    }
  }
}

}  // namespace tokenyard::host
