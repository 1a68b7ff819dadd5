#include "base/fail.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard {
namespace {

constexpr std::int64_t kMaxRows = (std::int64_t{1} << 31) - 1;  // row numbers travel as 32-bit integers

void check_lane(const Lane& lane, std::size_t lane_idx) {
  if (lane.num_elements <= 0) {
    fail_argument("lane {} has {} elements per row: give at least 1", lane_idx, lane.num_elements);
  }
  if (lane_idx == 0 && lane.row_bytes() % 16 != 0) {
    fail_argument("lane 0 has rows of {} bytes ({} x {}), which is not a multiple of 16: pad the hidden size", lane.row_bytes(),
                  lane.num_elements, to_string(lane.dtype));
  }
}

void check_combine(const Lane& lane) {
  if (!is_summable(lane.dtype)) {
    fail_argument("combine sums float16, bfloat16, float32 or float64 rows, not {}", to_string(lane.dtype));
  }
  if (lane.num_elements <= 0 || lane.row_bytes() % 16 != 0) {
    fail_argument("combine has rows of {} bytes ({} x {}): give a positive multiple of 16", lane.row_bytes(), lane.num_elements,
                  to_string(lane.dtype));
  }
}

}  // namespace

const char* to_string(Layout layout) noexcept {
  switch (layout) {
    case Layout::kCompact: return "compact";
    case Layout::kExpertContiguous: return "expert-contiguous";
    case Layout::kExpertPadded: return "expert-padded";
  }
  return "unknown layout";
}

void check_shape(const Shape& shape, int num_ranks) {
  const auto check_range = [](const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most) fail_argument("{} is {}: it must be from {} to {}", name, value, least, most);
  };
  check_range("the number of ranks", num_ranks, 1, kMaxRanks);
  check_range("num_experts", shape.num_experts, 1, kMaxExperts);
  check_range("top_k", shape.top_k, 1, kMaxTopK);
  check_range("max_tokens (per rank; ranks * max_tokens must stay below 2^31)", shape.max_tokens, 1, kMaxRows / num_ranks);
  check_range("the number of lanes", static_cast<std::int64_t>(shape.lanes.size()), 1, kMaxLanes);
  check_range("recv_capacity", shape.recv_capacity, 0, num_ranks * shape.max_tokens);
  check_range("max_local_experts", shape.max_local_experts, 0, kMaxExperts);
  for (std::size_t lane_idx = 0; lane_idx < shape.lanes.size(); ++lane_idx) check_lane(shape.lanes[lane_idx], lane_idx);
  if (shape.combine.has_value()) check_combine(*shape.combine);
  if (shape.layout == Layout::kExpertContiguous) check_range("expert_alignment", shape.expert_alignment, 1, 1 << 16);
  if (shape.layout == Layout::kExpertPadded) {
    check_range("expert_capacity (rows per expert, needed by the expert-padded layout)", shape.expert_capacity, 1,
                num_ranks * shape.max_tokens * shape.top_k);
  }
}

}  // namespace tokenyard
