#include "capi/shape.hpp"

#include <algorithm>
#include <span>

#include "capi/structs.hpp"
#include "capi/values.hpp"

namespace tokenyard::capi {
namespace {

DataType dtype_of(ty_data_type dtype, const char* name) { return enum_of(dtype, DataType::kInt64, name); }

Lane lane_of(const ty_lane& lane) {
  return {.dtype = dtype_of(lane.dtype, "the dtype of a lane"),
          .num_elements = lane.num_elements,
          .column_major = flag_of(lane.column_major, "column_major of a lane")};
}

// Cut where it is too long; the last byte stays zero.
template <std::size_t kNumBytes>
void copy_text(const std::string& text, char (&destination)[kNumBytes]) {
  std::copy_n(text.data(), std::min(text.size(), kNumBytes - 1), destination);
}

}  // namespace

PlacementTable read_placement(const ty_placement* given, const char* name) {
  const ty_placement read = read_struct(given, name);
  if (read.num_ranks < 1 || read.num_ranks > kMaxRanks) {
    fail_argument("{}: num_ranks is {}: it must be from 1 to {}", name, read.num_ranks, kMaxRanks);
  }
  if (read.num_entries < 0) fail_argument("{}: num_entries is {}: it must not be negative", name, read.num_entries);
  required(read.num_local_experts, "num_local_experts of the placement");
  if (read.num_entries != 0) required(read.experts, "experts of the placement");
  PlacementTable table;
  std::int64_t num_taken = 0;
  for (std::int32_t rank = 0; rank < read.num_ranks; ++rank) {
    const std::int32_t num_local = read.num_local_experts[rank];
    if (num_local < 0 || num_taken + num_local > read.num_entries) {
      fail_argument("{}: num_local_experts[{}] is {}, but {} of {} entries are left", name, rank, num_local,
                    read.num_entries - num_taken, read.num_entries);
    }
    table.experts_of.emplace_back(read.experts + num_taken, read.experts + num_taken + num_local);
    num_taken += num_local;
  }
  if (num_taken != read.num_entries) {
    fail_argument("{}: num_entries is {}, but num_local_experts add up to {}", name, read.num_entries, num_taken);
  }
  return table;
}

Shape read_shape(const ty_shape* given) {
  const ty_shape read = read_struct(given, "shape");
  if (read.num_lanes > kMaxLanes) fail_argument("shape->num_lanes is {}: a plan has 1 to {}", read.num_lanes, kMaxLanes);
  Shape shape;
  shape.num_experts = read.num_experts;
  shape.top_k = read.top_k;
  shape.max_tokens = read.max_tokens;
  for_each_struct(read.lanes, read.num_lanes, "shape->lanes",
                  [&](const ty_lane& lane, std::int32_t) { shape.lanes.push_back(lane_of(lane)); });
  if (read.combine != nullptr) shape.combine = lane_of(read_struct(read.combine, "shape->combine"));
  if (read.quantization != nullptr) {
    const ty_quantization quantization = read_struct(read.quantization, "shape->quantization");
    shape.quantization = Quantization{.from = dtype_of(quantization.from, "quantization->from"),
                                      .format = enum_of(quantization.format, ScaleFormat::kUE8M0, "quantization->format")};
  }
  shape.combine_as_float8 = flag_of(read.combine_as_float8, "shape->combine_as_float8");
  shape.mode = enum_of(read.mode, Mode::kLatency, "shape->mode");
  shape.mask_late_ranks = flag_of(read.mask_late_ranks, "shape->mask_late_ranks");
  shape.layout = enum_of(read.layout, Layout::kExpertPadded, "shape->layout");
  shape.expert_alignment = read.expert_alignment;
  shape.expert_capacity = read.expert_capacity;
  shape.recv_capacity = read.recv_capacity;
  shape.overflow = enum_of(read.overflow, Overflow::kDrop, "shape->overflow");
  if (read.placement != nullptr) shape.placement = read_placement(read.placement, "shape->placement");
  shape.max_local_experts = read.max_local_experts;
  return shape;
}

void write_plan_sizes(const PlanSizes& sizes, ty_plan_sizes* given) {
  ty_plan_sizes written = TY_PLAN_SIZES_INIT;
  written.recv_capacity = sizes.recv_capacity;
  written.worst_recv_rows = sizes.worst_recv_rows;
  written.window_bytes = sizes.window_bytes;
  written.metadata_bytes = sizes.metadata_bytes;
  written.max_local_experts = sizes.max_local_experts;
  written.max_fan_out = sizes.max_fan_out;
  written.num_regions = static_cast<std::int32_t>(sizes.regions.size());
  written.num_slots = kNumSlots;
  write_struct(written, given, "sizes");
}

void write_region(const PlanSizes& sizes, std::int32_t region_idx, ty_region* given) {
  if (region_idx < 0 || static_cast<std::size_t>(region_idx) >= sizes.regions.size()) {
    fail_argument("region_idx is {}: the plan has {} regions", region_idx, sizes.regions.size());
  }
  const Region& region = sizes.regions[static_cast<std::size_t>(region_idx)];
  ty_region written = TY_REGION_INIT;
  written.offset = region.offset;
  written.num_bytes = region.num_bytes;
  written.is_metadata = region.metadata ? 1 : 0;
  copy_text(region.window, written.window);
  copy_text(region.name, written.name);
  write_struct(written, given, "region");
}

}  // namespace tokenyard::capi

using namespace tokenyard::capi;

ty_status ty_compute_plan_sizes(const ty_shape* shape, int32_t num_ranks, ty_plan_sizes* sizes) {
  return guarded([&] { write_plan_sizes(tokenyard::plan_sizes(read_shape(shape), num_ranks), sizes); });
}

ty_status ty_compute_plan_region(const ty_shape* shape, int32_t num_ranks, int32_t region_idx, ty_region* region) {
  return guarded([&] { write_region(tokenyard::plan_sizes(read_shape(shape), num_ranks), region_idx, region); });
}
