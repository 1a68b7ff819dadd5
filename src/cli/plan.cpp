#include <fmt/core.h>

#include <cstdio>
#include <vector>

#include "cli/json.hpp"
#include "cli/options.hpp"
#include "cli/placement_file.hpp"
#include "cli/plan_memory.hpp"
#include "cli/shape_options.hpp"
#include "cli/table.hpp"
#include "cli/usage_error.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {
namespace {

Shape make_shape(const PlanOptions& options) {
  Shape shape;
  shape.mode = parse_mode(options.mode);
  shape.num_experts = options.num_experts;
  shape.top_k = options.top_k;
  shape.max_tokens = options.max_tokens;
  if (options.lanes.empty()) {
    shape.lanes = lanes_of(options.dtype, options.hidden);
    shape.combine = combine_lane_of(options.dtype, options.hidden);
    shape.quantization = quantization_of(options.quantize, options.dtype);
    if (shape.quantization.has_value()) shape.lanes = quantized_lanes(shape.quantization->format, options.hidden);
  } else {
    if (options.quantize != "none") throw UsageError("--quantize says what the lanes are, so --lane cannot be given too");
    for (const std::string& lane : options.lanes) shape.lanes.push_back(parse_lane(lane));
  }
  if (options.combine == "none") {
    shape.combine.reset();
  } else if (!options.combine.empty()) {
    shape.combine = parse_lane(options.combine);
  }
  shape.combine_as_float8 = options.combine_as_float8;
  shape.layout = parse_layout(options.layout);
  shape.expert_alignment = options.alignment;
  shape.expert_capacity = options.expert_capacity;
  shape.recv_capacity = options.recv_capacity;
  shape.overflow = parse_overflow(options.overflow);
  shape.max_local_experts = options.max_local_experts;
  if (!options.placement_path.empty()) shape.placement = read_placement(options.placement_path);
  return shape;
}

int num_copies(const Region& region) { return region.window == "control" ? 1 : kNumSlots; }

std::string lanes_text(const Shape& shape) {
  std::string text;
  for (const Lane& lane : shape.lanes) {
    text += fmt::format("{}{} x {}", text.empty() ? "" : " + ", to_string(lane.dtype), with_commas(lane.num_elements));
  }
  return text;
}

std::string bytes_cell(std::size_t num_bytes) { return with_commas(static_cast<std::int64_t>(num_bytes)); }

std::string human_cell(std::size_t num_bytes) { return human_bytes(static_cast<std::int64_t>(num_bytes)); }

void print_latency_memory(const LatencyMemory& memory) {
  Table table({"beside the windows, or instead of them", "", "bytes"});
  const auto add = [&table](const std::string& what, std::int64_t num_bytes) {
    table.add_row({what, human_bytes(num_bytes), with_commas(num_bytes)});
  };
  add("result of a slot, expert-contiguous, balanced routing", memory.contiguous_result);
  add("result of a slot, expert-contiguous, at worst", memory.worst_contiguous_result);
  add(fmt::format("result of a slot, expert-padded, {} rows per expert", with_commas(memory.padded_capacity)),
      memory.padded_result);
  table.add_rule();
  add("payload of the windows, both slots: 2 x (R M dispatch rows + R M returned rows)", memory.window_payload);
  add("the same with a place per (expert, rank, token): 2 x (L R M dispatch rows + E M returned rows)",
      memory.payload_by_expert);
  fmt::print("\n{}\n  R ranks, E experts, L experts of a rank at most, M tokens per rank at most\n", table.to_string());
}

void print_table(const Shape& shape, const PlanOptions& options, const PlanSizes& sizes) {
  fmt::print("A plan's memory in {} mode on each of {} ranks, in bytes\n", to_string(shape.mode), options.num_ranks);
  fmt::print("  {} experts (at most {} per rank), top-{}, at most {} tokens per rank and call, layout {}\n", shape.num_experts,
             sizes.max_local_experts, shape.top_k, with_commas(shape.max_tokens), to_string(shape.layout));
  fmt::print("  dispatch carries {} ({} bytes per row)", lanes_text(shape), with_commas(row_bytes(shape.lanes)));
  if (shape.combine) {
    fmt::print("; combine {} x {} ({} bytes per row)", to_string(shape.combine->dtype),
               with_commas(shape.combine->num_elements), bytes_cell(shape.combine->row_bytes()));
  }
  fmt::print("\n  a slot holds {} rows at first and can be asked to hold {}; a token can visit {} ranks\n\n",
             with_commas(sizes.recv_capacity), with_commas(sizes.worst_recv_rows), sizes.max_fan_out);

  Table table({"region", "window", "of", "offset", "bytes", "", "copies", "total bytes"}, 3);
  for (const Region& region : sizes.regions) {
    table.add_row({region.name, region.window, region.metadata ? "metadata" : "payload", bytes_cell(region.offset),
                   bytes_cell(region.num_bytes), human_cell(region.num_bytes), std::to_string(num_copies(region)),
                   bytes_cell(region.num_bytes * static_cast<std::size_t>(num_copies(region)))});
  }
  table.add_rule();
  table.add_row({"payload, both slots, with gaps", "", "", "", "", human_cell(sizes.window_bytes - sizes.metadata_bytes), "",
                 bytes_cell(sizes.window_bytes - sizes.metadata_bytes)});
  table.add_row(
      {"metadata, both slots", "", "", "", "", human_cell(sizes.metadata_bytes), "", bytes_cell(sizes.metadata_bytes)});
  table.add_row({"all windows of a rank", "", "", "", "", human_cell(sizes.window_bytes), "", bytes_cell(sizes.window_bytes)});
  std::fputs(table.to_string().c_str(), stdout);
  if (shape.mode == Mode::kLatency) print_latency_memory(latency_memory(shape, options.num_ranks, sizes));
  fmt::print(
      "\n  A window exists once for control and once per slot for dispatch and combine (copies). 1 KiB = 1,024 bytes.\n");
}

void print_json(const Shape& shape, const PlanOptions& options, const PlanSizes& sizes) {
  Record header{{"mode", to_string(shape.mode)},
                {"ranks", options.num_ranks},
                {"experts", shape.num_experts},
                {"top_k", shape.top_k},
                {"max_tokens", shape.max_tokens},
                {"layout", to_string(shape.layout)},
                {"dispatch_row_bytes", row_bytes(shape.lanes)},
                {"combine_row_bytes", shape.combine ? static_cast<std::int64_t>(shape.combine->row_bytes()) : 0},
                {"recv_capacity", sizes.recv_capacity},
                {"worst_recv_rows", sizes.worst_recv_rows},
                {"max_local_experts", sizes.max_local_experts},
                {"max_fan_out", sizes.max_fan_out},
                {"window_bytes", sizes.window_bytes},
                {"metadata_bytes", sizes.metadata_bytes}};
  if (shape.mode == Mode::kLatency) {
    const LatencyMemory memory = latency_memory(shape, options.num_ranks, sizes);
    header.insert(header.end(), {{"window_payload_bytes", memory.window_payload},
                                 {"payload_bytes_by_expert", memory.payload_by_expert},
                                 {"padded_capacity", memory.padded_capacity},
                                 {"padded_result_bytes", memory.padded_result},
                                 {"contiguous_result_bytes", memory.contiguous_result},
                                 {"worst_contiguous_result_bytes", memory.worst_contiguous_result}});
  }
  std::vector<Record> regions;
  for (const Region& region : sizes.regions) {
    regions.push_back({{"name", region.name},
                       {"window", region.window},
                       {"metadata", region.metadata},
                       {"offset", region.offset},
                       {"bytes", region.num_bytes},
                       {"copies", num_copies(region)}});
  }
  std::fputs(to_json(header, "regions", regions).c_str(), stdout);
}

}  // namespace

int run_plan(const PlanOptions& options) {
  const Shape shape = make_shape(options);
  const PlanSizes sizes = plan_sizes(shape, options.num_ranks);
  if (options.json) {
    print_json(shape, options, sizes);
  } else {
    print_table(shape, options, sizes);
  }
  return 0;
}

}  // namespace tokenyard::cli
