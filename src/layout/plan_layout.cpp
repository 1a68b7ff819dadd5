#include "layout/plan_layout.hpp"

#include <algorithm>
#include <string>

#include "base/hooks.hpp"
#include "layout/segment.hpp"

namespace tokenyard {
namespace {

// Regions start on cache lines that no other region shares; 256 also suits bulk copies on GPUs.
constexpr std::size_t kRegionAlignment = 256;

// Hands out consecutive regions of one window.
class RegionTable {
 public:
  RegionTable(std::string window, std::vector<Region>* regions) : window_(std::move(window)), regions_(regions) {}

  std::size_t add(const std::string& name, std::size_t num_bytes, bool metadata) {
    const bool overlaps = has_fault(Fault::kRegionsOverlap) && window_ != "control";
    const std::size_t offset = overlaps ? previous_offset_ : num_bytes_;
    previous_offset_ = num_bytes_;
    if (regions_ != nullptr) regions_->push_back({window_, name, offset, num_bytes, metadata});
    num_bytes_ = (num_bytes_ + num_bytes + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
    return offset;
  }

  std::size_t num_bytes() const { return num_bytes_; }

 private:
  std::string window_;
  std::vector<Region>* regions_;
  std::size_t num_bytes_ = 0;
  std::size_t previous_offset_ = 0;
};

}  // namespace

bool is_summable(DataType dtype) {
  return dtype == DataType::kFloat16 || dtype == DataType::kBFloat16 || dtype == DataType::kFloat32 ||
         dtype == DataType::kFloat64;
}

Lane combine_lane(const Shape& shape) {
  if (shape.combine.has_value()) return *shape.combine;
  if (is_summable(shape.lanes.at(0).dtype)) return shape.lanes[0];
  return {};
}

std::size_t returned_row_bytes(const Shape& shape) {
  const Lane lane = combine_lane(shape);
  if (!shape.combine_as_float8) return lane.row_bytes();
  const auto num_scales = static_cast<std::size_t>((lane.num_elements + kScaleBlock - 1) / kScaleBlock);
  const std::size_t num_bytes = static_cast<std::size_t>(lane.num_elements) + num_scales * sizeof(float);
  return (num_bytes + 15) / 16 * 16;
}

PlanDimensions plan_dimensions(const Shape& shape, int num_ranks, const Placement& placement) {
  PlanDimensions dimensions{};
  dimensions.num_ranks = num_ranks;
  dimensions.top_k = shape.top_k;
  dimensions.max_fan_out = std::min(shape.top_k, num_ranks);
  dimensions.max_local_experts = std::max(shape.max_local_experts, placement.max_local_experts());
  dimensions.max_tokens = shape.max_tokens;
  dimensions.worst_recv_rows = num_ranks * shape.max_tokens;
  // With balanced routing a rank receives as many rows as it sends: max_fan_out per token at most.
  const bool is_bound = shape.overflow == Overflow::kDrop || shape.mode == Mode::kLatency;
  const std::int64_t unasked = is_bound ? dimensions.worst_recv_rows : shape.max_tokens * dimensions.max_fan_out;
  dimensions.first_recv_capacity =
      std::min(dimensions.worst_recv_rows, shape.recv_capacity > 0 ? shape.recv_capacity : unasked);
  return dimensions;
}

ControlLayout control_layout(const Shape& shape, const PlanDimensions& dimensions, std::vector<Region>* regions) {
  RegionTable table("control", regions);
  const auto num_ranks = static_cast<std::size_t>(dimensions.num_ranks);
  const auto max_local_experts = static_cast<std::size_t>(dimensions.max_local_experts);
  ControlLayout layout{};
  for (int slot = 0; slot < kNumSlots; ++slot) {
    const std::string suffix = " of slot " + std::to_string(slot);
    for (const Track track : {Track::kDispatch, Track::kCombine}) {
      const char* name = track == Track::kDispatch ? "dispatch signals" : "combine signals";
      layout.lines[static_cast<int>(track)][slot] = table.add(name + suffix, num_ranks * sizeof(PeerLine), true);
    }
    if (shape.mode == Mode::kLatency) continue;
    layout.rank_counts[slot] = table.add("counts per rank" + suffix, num_ranks * num_ranks * sizeof(std::int32_t), true);
    layout.expert_counts[slot] =
        table.add("counts per expert" + suffix, num_ranks * max_local_experts * sizeof(std::int32_t), true);
    const auto num_words = num_ranks * static_cast<std::size_t>(num_segments(dimensions.max_tokens));
    for (const Track track : {Track::kDispatch, Track::kCombine}) {
      const char* name = track == Track::kDispatch ? "dispatch segments" : "combine segments";
      layout.segments[static_cast<int>(track)][slot] = table.add(name + suffix, num_words * sizeof(std::uint64_t), true);
    }
  }
  layout.num_bytes = table.num_bytes();
  return layout;
}

DispatchLayout dispatch_layout(const Shape& shape, const PlanDimensions& dimensions, std::int64_t recv_capacity,
                               std::vector<Region>* regions) {
  RegionTable table("dispatch", regions);
  const auto capacity = static_cast<std::size_t>(recv_capacity);
  const auto top_k = static_cast<std::size_t>(dimensions.top_k);
  DispatchLayout layout{};
  layout.topk_idx = table.add("top-k ids", capacity * top_k * sizeof(std::int32_t), true);
  layout.topk_weights = table.add("top-k weights", capacity * top_k * sizeof(float), true);
  layout.source_token = table.add("source tokens", capacity * sizeof(std::int32_t), true);
  layout.ordinal = table.add("ordinals", capacity * sizeof(std::int32_t), true);
  if (shape.mode == Mode::kLatency) {
    layout.arrivals = table.add(
        "arrivals",
        static_cast<std::size_t>(dimensions.num_ranks) * arrival_words(dimensions.max_tokens) * sizeof(std::uint64_t), true);
  }
  const std::size_t lanes_begin = table.num_bytes();
  for (std::size_t lane_idx = 0; lane_idx < shape.lanes.size(); ++lane_idx) {
    layout.lanes[lane_idx] =
        table.add("rows of lane " + std::to_string(lane_idx), capacity * shape.lanes[lane_idx].row_bytes(), false);
  }
  // Outputs of experts may be written over the received rows (Received::combine_buffer), and may be wider.
  const std::size_t combine_bytes = capacity * combine_lane(shape).row_bytes();
  const std::size_t lanes_bytes = table.num_bytes() - lanes_begin;
  if (shape.mode == Mode::kThroughput && shape.layout == Layout::kCompact && combine_bytes > lanes_bytes) {
    table.add("wider rows of combine", combine_bytes - lanes_bytes, false);
  }
  layout.num_bytes = table.num_bytes();
  return layout;
}

ReturnPlaces return_places(const Shape& shape, const PlanDimensions& dimensions) {
  return {.by_rank = shape.mode == Mode::kLatency,
          .num_ranks = dimensions.num_ranks,
          .max_tokens = dimensions.max_tokens,
          .max_fan_out = dimensions.max_fan_out};
}

CombineLayout combine_layout(const Shape& shape, const PlanDimensions& dimensions, std::vector<Region>* regions) {
  RegionTable table("combine", regions);
  const auto max_tokens = static_cast<std::size_t>(dimensions.max_tokens);
  const ReturnPlaces places = return_places(shape, dimensions);
  CombineLayout layout{};
  layout.weights = table.add("returned weights",
                             static_cast<std::size_t>(places.num_weight_rows() * dimensions.top_k) * sizeof(float), true);
  if (shape.mode == Mode::kLatency) {
    layout.given_weights = table.add("weights given at combine",
                                     static_cast<std::size_t>(dimensions.num_ranks) * max_tokens *
                                         static_cast<std::size_t>(dimensions.top_k) * sizeof(float),
                                     true);
  }
  layout.rows = table.add("returned rows", static_cast<std::size_t>(places.num_places()) * returned_row_bytes(shape), false);
  layout.num_bytes = table.num_bytes();
  return layout;
}

PlanSizes plan_sizes(const Shape& shape, int num_ranks) {
  check_shape(shape, num_ranks);
  const Placement placement(shape.placement, shape.num_experts, num_ranks);
  const PlanDimensions dimensions = plan_dimensions(shape, num_ranks, placement);
  check_expanded_bytes(shape, dimensions);
  PlanSizes sizes;
  sizes.recv_capacity = dimensions.first_recv_capacity;
  sizes.worst_recv_rows = dimensions.worst_recv_rows;
  sizes.max_local_experts = dimensions.max_local_experts;
  sizes.max_fan_out = dimensions.max_fan_out;
  const std::size_t control = control_layout(shape, dimensions, &sizes.regions).num_bytes;
  const std::size_t dispatch = dispatch_layout(shape, dimensions, sizes.recv_capacity, &sizes.regions).num_bytes;
  const std::size_t combine = combine_layout(shape, dimensions, &sizes.regions).num_bytes;
  sizes.window_bytes = control + kNumSlots * (dispatch + combine);
  for (const Region& region : sizes.regions) {
    if (region.metadata) sizes.metadata_bytes += region.num_bytes * (region.window == "control" ? 1 : kNumSlots);
  }
  return sizes;
}

}  // namespace tokenyard
