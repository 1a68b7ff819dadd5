#include "cli/plan_memory.hpp"

#include <algorithm>

#include "cli/shape_options.hpp"

namespace tokenyard::cli {
namespace {

std::int64_t payload_of(const PlanSizes& sizes, const char* window) {
  std::size_t num_bytes = 0;
  for (const Region& region : sizes.regions) {
    if (region.window == window && !region.metadata) num_bytes += region.num_bytes;
  }
  return static_cast<std::int64_t>(num_bytes) * kNumSlots;
}

}  // namespace

LatencyMemory latency_memory(const Shape& shape, int num_ranks, const PlanSizes& sizes) {
  const std::int64_t row = row_bytes(shape.lanes);
  const std::int64_t num_places = num_ranks * shape.max_tokens;
  const std::int64_t dispatch_payload = payload_of(sizes, "dispatch");
  const std::int64_t combine_payload = payload_of(sizes, "combine");
  LatencyMemory memory;
  memory.window_payload = dispatch_payload + combine_payload;
  memory.payload_by_expert = dispatch_payload * sizes.max_local_experts + combine_payload / num_ranks * shape.num_experts;

  memory.padded_capacity = shape.expert_capacity > 0 ? shape.expert_capacity : num_places;
  memory.padded_result = sizes.max_local_experts * memory.padded_capacity * row;
  const std::int64_t gaps = std::int64_t{sizes.max_local_experts} * (shape.expert_alignment - 1);
  const std::int64_t most_per_token = std::min(shape.top_k, sizes.max_local_experts);
  memory.contiguous_result = (shape.max_tokens * shape.top_k + gaps) * row;
  memory.worst_contiguous_result = (num_places * most_per_token + gaps) * row;
  return memory;
}

}  // namespace tokenyard::cli
