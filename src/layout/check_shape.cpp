#include <algorithm>
#include <string>

#include "base/fail.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard {
namespace {

constexpr std::int64_t kMaxRows = (std::int64_t{1} << 31) - 1;  // row numbers and counts travel as 32-bit integers
constexpr std::int64_t kMaxRowBytes = std::int64_t{1} << 28;    // with kMaxRows, keeps all offsets below 2^63
constexpr long double kMaxExpandedBytes = std::int64_t{1} << 62;

// `name` is "lane 1" or "combine".
void check_row(const std::string& name, const Lane& lane) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
  if (element_bytes == 0) fail_argument("{} has elements of type {}, which is none", name, static_cast<int>(lane.dtype));
  if (lane.num_elements < 1 || lane.num_elements > kMaxRowBytes / element_bytes) {
    fail_argument("{} has {} {} elements per row: give from 1 to {} (rows of at most {} bytes)", name, lane.num_elements,
                  to_string(lane.dtype), kMaxRowBytes / element_bytes, kMaxRowBytes);
  }
}

void check_lane(const Lane& lane, std::size_t lane_idx) {
  check_row(fmt::format("lane {}", lane_idx), lane);
  if (lane_idx == 0 && lane.row_bytes() % 16 != 0) {
    fail_argument("lane 0 has rows of {} bytes ({} x {}), which is not a multiple of 16: pad the hidden size", lane.row_bytes(),
                  lane.num_elements, to_string(lane.dtype));
  }
}

void check_combine(const Lane& lane) {
  if (!is_summable(lane.dtype)) {
    fail_argument("combine sums float16, bfloat16, float32 or float64 rows, not {}", to_string(lane.dtype));
  }
  check_row("combine", lane);
  if (lane.column_major) fail_argument("combine cannot be column-major: only further lanes (scales) of expert layouts can");
  if (lane.row_bytes() % 16 != 0) {
    fail_argument("combine has rows of {} bytes ({} x {}), which is not a multiple of 16: pad the hidden size",
                  lane.row_bytes(), lane.num_elements, to_string(lane.dtype));
  }
}

void check_quantization(const Shape& shape) {
  const Quantization& quantization = *shape.quantization;
  if (quantization.from != DataType::kFloat32 && quantization.from != DataType::kBFloat16 &&
      quantization.from != DataType::kFloat16) {
    fail_argument("quantization starts from float32, bfloat16 or float16 rows, not {}", to_string(quantization.from));
  }
  const auto format = static_cast<int>(quantization.format);
  if (format > static_cast<int>(ScaleFormat::kUE8M0)) {
    fail_argument("the format of quantization's scales (an enumerator's number) is {}: it must be from 0 to {}", format,
                  static_cast<int>(ScaleFormat::kUE8M0));
  }
  const DataType scale = quantization.format == ScaleFormat::kUE8M0 ? DataType::kUE8M0 : DataType::kFloat32;
  const std::int64_t hidden = shape.lanes[0].num_elements;
  const std::int64_t num_scales = (hidden + kScaleBlock - 1) / kScaleBlock;
  const bool fits = shape.lanes.size() >= 2 && shape.lanes[0].dtype == DataType::kFloat8E4M3 && shape.lanes[1].dtype == scale &&
                    shape.lanes[1].num_elements == num_scales;
  if (!fits) {
    fail_argument("with quantization lane 0 must be float8_e4m3 and lane 1 its scales: {} x {} for {} values", num_scales,
                  to_string(scale), hidden);
  }
}

void check_modes(const Shape& shape) {
  if (shape.mode == Mode::kLatency && shape.recv_capacity != 0) {
    fail_argument("recv_capacity is {}: in latency mode every source owns max_tokens places, so leave it 0",
                  shape.recv_capacity);
  }
  if (shape.mode == Mode::kThroughput && shape.mask_late_ranks) {
    fail_argument(
        "mask_late_ranks needs latency mode: in throughput mode ranks write into shared rows, and a late one may still "
        "do so");
  }
  if (shape.combine_as_float8) {
    const Lane lane = combine_lane(shape);
    if (lane.num_elements == 0 || lane.dtype == DataType::kFloat64) {
      fail_argument("combine_as_float8 needs a combine type of float16, bfloat16 or float32");
    }
  }
  for (std::size_t lane_idx = 0; lane_idx < shape.lanes.size(); ++lane_idx) {
    if (!shape.lanes[lane_idx].column_major) continue;
    if (lane_idx == 0 || shape.layout == Layout::kCompact) {
      fail_argument("lane {} cannot be column-major: only further lanes (scales) of expert layouts can", lane_idx);
    }
  }
}

}  // namespace

const char* to_string(Mode mode) noexcept {
  switch (mode) {
    case Mode::kThroughput: return "throughput";
    case Mode::kLatency: return "latency";
  }
  return "unknown mode";
}

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
  check_range("max_tokens (per rank; times the ranks, and times top_k, it must stay below 2^31)", shape.max_tokens, 1,
              kMaxRows / std::max(num_ranks, shape.top_k));
  check_range("the number of lanes", static_cast<std::int64_t>(shape.lanes.size()), 1, kMaxLanes);
  check_range("recv_capacity", shape.recv_capacity, 0, num_ranks * shape.max_tokens);
  check_range("max_local_experts", shape.max_local_experts, 0, kMaxExperts);
  for (std::size_t lane_idx = 0; lane_idx < shape.lanes.size(); ++lane_idx) check_lane(shape.lanes[lane_idx], lane_idx);
  if (shape.combine.has_value()) check_combine(*shape.combine);
  check_range("mode (an enumerator's number)", static_cast<std::int64_t>(shape.mode), 0,
              static_cast<std::int64_t>(Mode::kLatency));
  if (shape.quantization.has_value()) check_quantization(shape);
  check_modes(shape);
  check_range("layout (an enumerator's number)", static_cast<std::int64_t>(shape.layout), 0,
              static_cast<std::int64_t>(Layout::kExpertPadded));
  check_range("overflow (an enumerator's number)", static_cast<std::int64_t>(shape.overflow), 0,
              static_cast<std::int64_t>(Overflow::kDrop));
  if (shape.layout == Layout::kExpertContiguous) check_range("expert_alignment", shape.expert_alignment, 1, 1 << 16);
  if (shape.layout == Layout::kExpertPadded) {
    check_range("expert_capacity (rows per expert, needed by the expert-padded layout)", shape.expert_capacity, 1,
                num_ranks * shape.max_tokens * shape.top_k);
  }
}

void check_expanded_bytes(const Shape& shape, const PlanDimensions& dimensions) {
  long double num_rows = 0;
  if (shape.layout == Layout::kExpertPadded)
    num_rows = static_cast<long double>(shape.expert_capacity) * dimensions.max_local_experts;
  if (shape.layout == Layout::kExpertContiguous) {
    num_rows = static_cast<long double>(dimensions.worst_recv_rows) * shape.top_k +
               static_cast<long double>(shape.expert_alignment) * dimensions.max_local_experts;
  }
  long double row_bytes = 0;  // of all lanes
  for (const Lane& lane : shape.lanes) row_bytes += static_cast<long double>(lane.row_bytes());
  if (num_rows * row_bytes > kMaxExpandedBytes) {
    fail_argument("the {} layout could need {:.0f} rows of {:.0f} bytes: lower expert_capacity, max_tokens or the hidden size",
                  to_string(shape.layout), num_rows, row_bytes);
  }
}

}  // namespace tokenyard
