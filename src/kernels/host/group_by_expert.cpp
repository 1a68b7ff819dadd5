#include "kernels/host/group_by_expert.hpp"

#include <algorithm>
#include <vector>

#include "base/hooks.hpp"

namespace tokenyard::host {

void group_by_expert(const GroupByExpertArgs& args) {
  const std::int64_t num_pairs = args.num_rows * args.top_k;
  std::fill_n(args.expert_counts, args.num_local_experts, 0);
  for (std::int64_t pair = 0; pair < num_pairs; ++pair) {
    if (args.topk_idx[pair] >= 0) ++args.expert_counts[args.topk_idx[pair]];
  }

  const bool aligned = args.layout == Layout::kExpertContiguous && !has_fault(Fault::kExpandIgnoresAlignment);
  const std::int64_t alignment = aligned ? args.alignment : 1;
  args.expert_offsets[0] = 0;
  for (int expert = 0; expert < args.num_local_experts; ++expert) {
    std::int64_t& num_kept = args.expert_counts[expert];
    args.expert_dropped[expert] = 0;
    std::int64_t group_rows = (num_kept + alignment - 1) / alignment * alignment;
    if (args.layout == Layout::kExpertPadded) {
      args.expert_dropped[expert] = std::max<std::int64_t>(num_kept - args.capacity, 0);
      num_kept -= args.expert_dropped[expert];
      group_rows = args.capacity;
    }
    args.expert_offsets[expert + 1] = args.expert_offsets[expert] + group_rows;
  }

  std::vector<std::int64_t> num_placed(args.num_local_experts, 0);
  for (int source = 0; source < args.num_ranks; ++source) {
    for (int expert = 0; expert < args.num_local_experts; ++expert) {
      args.expert_source_offsets[expert * (args.num_ranks + 1) + source] = num_placed[expert];
    }
    const std::int64_t end = args.source_offsets[source + 1] * args.top_k;
    for (std::int64_t pair = args.source_offsets[source] * args.top_k; pair < end; ++pair) {
      const std::int32_t expert = args.topk_idx[pair];
      const bool is_kept = expert >= 0 && num_placed[expert] < args.expert_counts[expert];
      args.expanded_row[pair] = is_kept ? args.expert_offsets[expert] + num_placed[expert]++ : -1;
    }
  }
  for (int expert = 0; expert < args.num_local_experts; ++expert) {
    args.expert_source_offsets[expert * (args.num_ranks + 1) + args.num_ranks] = num_placed[expert];
  }
}

}  // namespace tokenyard::host
