#include "cli/bench_setup.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/bench_check.hpp"
#include "cli/core_binding.hpp"
#include "cli/shape_options.hpp"
#include "cli/usage_error.hpp"

namespace tokenyard::cli {
namespace {

// What a mode is for decides what is measured unless the user asks for something else.
struct ModeDefaults {
  Mode mode;
  std::vector<std::int64_t> token_counts;
  bool cold_caches;
  int num_iterations;
  int num_warmups;
};

ModeDefaults defaults_of(const std::string& mode) {
  if (mode == "throughput") {
    return {.mode = Mode::kThroughput, .token_counts = {4096}, .cold_caches = true, .num_iterations = 20, .num_warmups = 5};
  }
  // In decode, calls come close together, on rows that have just been computed.
  if (mode == "latency") {
    return {.mode = Mode::kLatency,
            .token_counts = {1, 2, 4, 8, 16, 32, 64, 128},
            .cold_caches = false,
            .num_iterations = 200,
            .num_warmups = 20};
  }
  throw UsageError(fmt::format("--mode {}: expected throughput or latency", mode));
}

void check_word(const char* option, const std::string& word, std::initializer_list<const char*> known) {
  if (std::find(known.begin(), known.end(), word) != known.end()) return;
  std::string text;
  for (const char* name : known) text += fmt::format("{}{}", text.empty() ? "" : " or ", name);
  throw UsageError(fmt::format("{} {}: expected {}", option, word, text));
}

void check_options(const BenchOptions& options, const ModeDefaults& defaults) {
  check_word("--output", options.output, {"slot", "caller"});
  check_word("--bind", options.bind, {"core", "none"});
  if (!options.caches.empty()) check_word("--caches", options.caches, {"cold", "warm"});
  if (defaults.mode == Mode::kThroughput) {
    if (options.token_counts.size() > 1) {
      throw UsageError(fmt::format("--tokens: {} numbers are given, but only latency mode measures several (--mode latency)",
                                   options.token_counts.size()));
    }
    return;
  }
  if (options.output != "slot") throw UsageError("--output caller is measured in throughput mode alone");
  if (!options.against.empty()) throw UsageError("--against mpi is measured in throughput mode alone");
  if (options.overflow != "grow" || options.recv_capacity != 0) {
    throw UsageError("--overflow drop and --capacity are for throughput mode: in latency mode every token has a place");
  }
}

bool names_load_or_step(const BenchOptions& options) {
  const BenchOptions defaults;
  return !options.token_counts.empty() || options.hidden != defaults.hidden || options.num_experts != defaults.num_experts ||
         options.top_k != defaults.top_k || options.dtype != defaults.dtype || options.quantize != defaults.quantize ||
         options.layout != defaults.layout || options.routing != defaults.routing || options.output != defaults.output ||
         options.num_sms != defaults.num_sms || options.graph || !options.against.empty();
}

Shape make_shape(const BenchOptions& options, const ModeDefaults& defaults) {
  Shape shape;
  shape.mode = defaults.mode;
  shape.num_experts = options.num_experts;
  shape.top_k = options.top_k;
  shape.lanes = lanes_of(options.dtype, options.hidden);
  shape.combine = combine_lane_of(options.dtype, options.hidden);
  shape.quantization = quantization_of(options.quantize, options.dtype);
  if (shape.quantization.has_value()) shape.lanes = quantized_lanes(shape.quantization->format, options.hidden);
  shape.layout = parse_layout(options.layout);
  shape.expert_alignment = options.alignment;
  shape.recv_capacity = options.recv_capacity;
  shape.overflow = parse_overflow(options.overflow);
  return shape;
}

}  // namespace

bool BenchSetup::can_combine_in_place() const {
  return can_combine() && !caller_outputs && shape.mode == Mode::kThroughput && shape.layout == Layout::kCompact &&
         shape.combine->dtype == shape.lanes[0].dtype;
}

std::int64_t BenchSetup::num_local_rows() const {
  std::int64_t num_rows = 0;
  for (int rank = 0; rank < num_ranks; ++rank) num_rows += expected[static_cast<std::size_t>(rank)].rows_from(rank);
  return num_rows;
}

std::int64_t BenchSetup::num_wire_rows() const {
  std::int64_t num_rows = 0;
  for (const ExpectedRank& rank : expected) num_rows += static_cast<std::int64_t>(rank.rows.size());
  return num_rows - num_local_rows();
}

void check_device_options(const BenchOptions& options) {
  check_word("--device", options.device, {"cpu", "cuda"});
  if (!options.against.empty()) check_word("--against", options.against, {"mpi", "nccl"});
  check_word("--copies", options.copies, {"chosen", "bulk", "plain", "engine"});
  const bool on_gpus = options.device == "cuda";
  if (!on_gpus) {
    if (options.against == "nccl") throw UsageError("--against nccl is measured between GPUs: add --device cuda");
    if (options.graph || options.table || options.overlap || options.num_sms != 0 || options.copies != "chosen") {
      throw UsageError("--sms, --copies, --graph, --table and --overlap are for ranks on GPUs: add --device cuda");
    }
    return;
  }
  if (options.mode != "throughput") {
    throw UsageError("--device cuda measures throughput mode: ranks on GPUs have no other yet");
  }
  if (options.token_counts.size() > 1) {
    throw UsageError(
        fmt::format("--tokens: {} numbers are given, but on GPUs one is measured at a time", options.token_counts.size()));
  }
  if (options.overlap && (options.table || options.graph || !options.against.empty() || options.output != "slot")) {
    throw UsageError(
        "--overlap measures calls whose rows stay in the slot, beside a product: leave --table, --graph, --against and "
        "--output "
        "caller out");
  }
  if (options.copies == "engine" && (options.table || options.graph)) {
    throw UsageError(
        "--copies engine: copy engines carry rows whose number the host knows, and goals and graphs are for the other ways: "
        "leave "
        "--table and --graph out");
  }
  if (options.against == "mpi")
    throw UsageError("--against mpi is measured on the host: with --device cuda use --against nccl");
  if (options.overflow != "grow" || options.recv_capacity != 0) {
    throw UsageError(
        "--overflow and --capacity are for --device cpu: on GPUs sized output and capacity output are both measured, with room "
        "for all rows");
  }
  if (options.table && names_load_or_step(options)) {
    throw UsageError(
        "--table measures the loads and steps that have goals: options that name a load or a step, as --tokens or "
        "--sms, do not go with it");
  }
}

std::vector<BenchSetup> make_bench_setups(const BenchOptions& options, int num_ranks) {
  const ModeDefaults defaults = defaults_of(options.mode);
  check_options(options, defaults);
  Shape shape = make_shape(options, defaults);
  const bool chooses_capacity = shape.layout == Layout::kExpertPadded && options.expert_capacity == 0;
  if (shape.layout == Layout::kExpertPadded) shape.expert_capacity = std::max<std::int64_t>(options.expert_capacity, 1);

  std::vector<BenchSetup> setups;
  for (const std::int64_t num_tokens : options.token_counts.empty() ? defaults.token_counts : options.token_counts) {
    BenchSetup& setup = setups.emplace_back();
    setup.options = options;
    setup.num_ranks = num_ranks;
    setup.num_tokens = num_tokens;
    setup.bound = options.bind == "core" && has_core_for_each(num_ranks);
    setup.cold_caches = options.caches.empty() ? defaults.cold_caches : options.caches == "cold";
    setup.num_iterations = options.num_iterations.value_or(defaults.num_iterations);
    setup.num_warmups = options.num_warmups.value_or(defaults.num_warmups);
    setup.caller_outputs = options.output == "caller";
    setup.routing = make_routing(options.routing, {.num_ranks = num_ranks,
                                                   .num_tokens = num_tokens,
                                                   .num_experts = options.num_experts,
                                                   .top_k = options.top_k,
                                                   .seed = options.seed});
    shape.max_tokens = std::max(shape.max_tokens, num_tokens);
    if (chooses_capacity) shape.expert_capacity = std::max(shape.expert_capacity, busiest_expert_rows(setup.routing));
  }
  plan_sizes(shape, num_ranks);  // for its errors, once and before any rank exists
  for (BenchSetup& setup : setups) {
    setup.shape = shape;
    setup.given_lanes = shape.quantization.has_value() ? lanes_of(options.dtype, options.hidden) : shape.lanes;
    for (int rank = 0; rank < num_ranks; ++rank) setup.expected.push_back(expect_rank(setup.routing, shape, rank));
    setup.dispatch_row_bytes = row_bytes(shape.lanes);
    setup.combine_row_bytes = shape.combine ? static_cast<std::int64_t>(shape.combine->row_bytes()) : 0;
    if (options.check && shape.quantization.has_value()) setup.quantized = expect_quantized(setup);
  }
  return setups;
}

}  // namespace tokenyard::cli
