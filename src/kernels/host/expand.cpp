#include "kernels/host/expand.hpp"

#include <cstring>

#include "kernels/host/rows.hpp"

namespace tokenyard::host {

void expand(const ExpandArgs& args) {
  for (std::int64_t row = 0; row < args.num_rows; ++row) {
    for (int k = 0; k < args.top_k; ++k) {
      const std::int64_t target = args.expanded_row[row * args.top_k + k];
      if (target < 0) continue;
      copy_row(args.expanded + target * args.row_bytes, args.received + row * args.row_bytes, args.row_bytes);
    }
  }
  finish_copies();
}

void zero_gaps(const ZeroGapsArgs& args) {
  for (int expert = 0; expert < args.num_local_experts; ++expert) {
    const std::int64_t begin = args.expert_offsets[expert] + args.expert_counts[expert];
    const std::int64_t end = args.expert_offsets[expert + 1];
    std::memset(args.expanded + begin * args.row_bytes, 0, static_cast<std::size_t>(end - begin) * args.row_bytes);
  }
}

}  // namespace tokenyard::host
