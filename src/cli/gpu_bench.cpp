#include "cli/gpu_bench.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "base/cuda_error.hpp"
#include "cli/bench_output.hpp"
#include "cli/bench_setup.hpp"
#include "cli/cublas_library.hpp"
#include "cli/gather.hpp"
#include "cli/gpu_bench_rank.hpp"
#include "cli/gpu_bench_report.hpp"
#include "cli/gpu_count.hpp"
#include "cli/gpu_goals.hpp"
#include "cli/gpu_operations.hpp"
#include "cli/gpu_overlap.hpp"
#include "cli/gpu_overlap_report.hpp"
#include "cli/gpu_stage.hpp"
#include "cli/nccl_exchange.hpp"
#include "cli/product_size.hpp"
#include "cli/start_ranks.hpp"
#include "cli/statistics.hpp"
#include "cli/usage_error.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {
namespace {

Copies parse_copies(const std::string& text) {
  if (text == "bulk") return Copies::kBulk;
  if (text == "engine") return Copies::kEngine;
  if (text == "plain") return Copies::kPlain;
  if (text == "chosen") return Copies::kChosen;
  throw UsageError(fmt::format("--copies {}: expected bulk, plain, engine or chosen", text));
}

// As many as all ranks of a GPU can have at once, or they would wait for each other for ever.
int affordable_sms(const GpuStage& stage, int num_sms) {
  return std::min(num_sms, std::max(1, stage.num_sms() / stage.num_ranks_on_gpu()));
}

std::vector<GpuStep> steps_of(const BenchSetup& setup, const GpuStage& stage) {
  const BenchOptions& options = setup.options;
  const int num_sms = affordable_sms(stage, options.num_sms);
  const Copies copies = parse_copies(options.copies);
  const bool copy_out = setup.caller_outputs;
  // Copy engines need sizes that the host knows, and rows that can be read in the slot.
  const bool engines = copies == Copies::kEngine;
  std::vector<GpuStep> steps;
  for (const char* operation : {kDispatchCached, kDispatch, kDispatchCapacity}) {
    if (engines && operation == kDispatchCapacity) continue;
    steps.push_back({.operation = operation, .copy_out = copy_out, .num_sms = num_sms, .copies = copies});
  }
  if (setup.can_combine_in_place()) {
    steps.push_back({.operation = kCombineInPlace, .copy_out = false, .num_sms = num_sms, .copies = copies});
  }
  if (setup.can_combine() && !engines) {
    steps.push_back({.operation = kCombine, .copy_out = true, .num_sms = num_sms, .copies = copies});
    if (options.graph) steps.push_back({.operation = kGraph, .copy_out = copy_out, .num_sms = num_sms, .copies = copies});
  }
  return steps;
}

// Collective: every rank gets the step over all ranks.
GpuResult gather_result(const GpuStage& stage, const GpuStep& step, const GpuMeasurement& measurement) {
  const std::chrono::milliseconds timeout = stage.group().timeout();
  GpuResult result{.operation = step.operation,
                   .copy_out = step.copy_out,
                   .num_sms = step.num_sms,
                   .copies = to_string(step.copies),
                   .microseconds = {}};
  result.microseconds = slowest_of_ranks(gather(stage.exchange(), measurement.microseconds, timeout));
  for (const auto& rows : gather(stage.exchange(), std::vector{measurement.checked_rows, measurement.wrong_rows}, timeout)) {
    result.checked_rows += rows.at(0);
    result.wrong_rows += rows.at(1);
  }
  return result;
}

GpuScene look_around(GpuStage& stage) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, stage.device()), "cudaGetDeviceProperties");
  GpuScene scene{.gpu = properties.name,
                 .num_gpus = std::max(1, stage.group().num_ranks() / stage.num_ranks_on_gpu()),
                 .num_ranks_on_gpu = stage.num_ranks_on_gpu(),
                 .copy_engine = {},
                 .copy_engine_one_way = {}};
  scene.copy_engine = stage.copy_engine_rate(false);
  scene.copy_engine_one_way = stage.copy_engine_rate(true);
  return scene;
}

int conclude(const BenchOptions& options, const Record& header, const std::vector<Record>& results) {
  print(bench_table(results));
  if (!options.json_path.empty()) write_results(options.json_path, header, results);
  if (!has_wrong_rows(results)) return 0;
  print("  FAILED: there are wrong rows\n");
  return 1;
}

// One load and what there is to measure of it.
int run_load(GpuStage& stage, const BenchSetup& setup) {
  const bool is_speaker = stage.rank() == 0;
  const GpuScene scene = look_around(stage);
  if (is_speaker) print(gpu_bench_heading(setup, scene));
  std::vector<Record> results;
  {
    GpuBenchRank rank(setup, stage, setup.caller_outputs);
    for (const GpuStep& step : steps_of(setup, stage)) {
      results.push_back(to_gpu_result(setup, scene, gather_result(stage, step, rank.measure(step))));
    }
  }
  if (setup.options.against == "nccl") {
    const GpuMeasurement measurement = measure_nccl(setup, stage);
    GpuResult result = gather_result(stage, {.operation = kNcclAllToAll, .copy_out = true}, measurement);
    result.copies.clear();
    results.push_back(to_gpu_result(setup, scene, result));
  }
  if (is_speaker) return conclude(setup.options, gpu_bench_header(setup, scene), results);
  return has_wrong_rows(results) ? 1 : 0;
}

// All goals, load by load. `setups` has one for each load, in the order of the goals.
int run_goals(GpuStage& stage, const std::vector<BenchSetup>& setups) {
  const bool is_speaker = stage.rank() == 0;
  const GpuScene scene = look_around(stage);
  if (is_speaker) print(gpu_goals_heading(setups.front(), scene));
  std::vector<Record> results;
  auto setup = setups.begin();
  std::unique_ptr<GpuBenchRank> rank;
  const GpuGoal* previous = nullptr;
  for (const GpuGoal& goal : gpu_goals()) {
    if (goal.by_engines && stage.num_ranks_on_gpu() > 1) continue;  // the library refuses it
    if (previous != nullptr && !(previous->load == goal.load)) {
      rank.reset();
      stage.settle();
      ++setup;
    }
    if (rank == nullptr) rank = std::make_unique<GpuBenchRank>(*setup, stage, true);
    const GpuStep step{.operation = std::string(goal.operation),
                       .copy_out = goal.copy_out,
                       .num_sms = affordable_sms(stage, goal.num_sms),
                       .copies = goal.by_engines ? Copies::kEngine : parse_copies(setup->options.copies)};
    results.push_back(to_goal_result(*setup, scene, gather_result(stage, step, rank->measure(step)), goal));
    previous = &goal;
  }
  rank.reset();
  if (is_speaker) return conclude(setups.front().options, gpu_goals_header(setups.front(), scene), results);
  return has_wrong_rows(results) ? 1 : 0;
}

// Copy engines and SMs on the link, unless --copies names one way. A product would keep SMs that it has got to its end, so it
// leaves the call its own.
std::vector<OverlapStep> overlap_steps_of(const BenchSetup& setup, const GpuStage& stage) {
  std::vector<Copies> ways{parse_copies(setup.options.copies)};
  // The library refuses copy engines where ranks share a GPU.
  if (ways.front() == Copies::kChosen && stage.num_ranks_on_gpu() == 1) ways.insert(ways.begin(), Copies::kEngine);
  std::vector<const char*> operations{kDispatchCached};
  if (setup.can_combine_in_place()) operations.push_back(kCombineInPlace);
  constexpr int kDefaultSms = 16;
  const int num_sms = setup.options.num_sms > 0 ? setup.options.num_sms : kDefaultSms;
  std::vector<OverlapStep> steps;
  for (const char* operation : operations) {
    for (const Copies copies : ways) {
      for (const bool is_urgent : {false, true}) {
        steps.push_back(
            {.operation = operation, .copies = copies, .is_urgent = is_urgent, .num_sms = affordable_sms(stage, num_sms)});
      }
    }
  }
  return steps;
}

// Collective: every rank gets the step over all ranks.
OverlapResult gather_overlap(const GpuStage& stage, const OverlapStep& step, const OverlapMeasurement& measurement) {
  const std::chrono::milliseconds timeout = stage.group().timeout();
  const auto slowest = [&](const std::vector<double>& microseconds) {
    return slowest_of_ranks(gather(stage.exchange(), microseconds, timeout));
  };
  OverlapResult result{.operation = step.operation,
                       .copies = to_string(step.copies),
                       .is_urgent = step.is_urgent,
                       .num_sms = step.num_sms,
                       .product_alone = slowest(measurement.product_alone),
                       .product_beside = slowest(measurement.product_beside),
                       .call_alone = slowest(measurement.call_alone),
                       .call_beside = slowest(measurement.call_beside)};
  for (const auto& rows : gather(stage.exchange(), std::vector{measurement.checked_rows, measurement.wrong_rows}, timeout)) {
    result.checked_rows += rows.at(0);
    result.wrong_rows += rows.at(1);
  }
  return result;
}

int run_overlap(GpuStage& stage, const BenchSetup& setup) {
  const bool is_speaker = stage.rank() == 0;
  const GpuScene scene = look_around(stage);
  std::vector<Record> results;
  ProductScene product{.width = kProductWidth};
  {
    GpuOverlap overlap(setup, stage);
    product.num_rows = overlap.product().num_rows();
    product.cublas_version = overlap.product().cublas_version();
    if (is_speaker) print(overlap_heading(setup, scene, product));
    for (const OverlapStep& step : overlap_steps_of(setup, stage)) {
      results.push_back(to_overlap_record(gather_overlap(stage, step, overlap.measure(step))));
    }
  }
  if (is_speaker) return conclude(setup.options, overlap_header(setup, scene, product), results);
  return has_wrong_rows(results) ? 1 : 0;
}

std::vector<BenchSetup> make_setups(const BenchOptions& options, int num_ranks) {
  if (!options.table) return make_bench_setups(options, num_ranks);
  std::vector<BenchSetup> setups;
  std::optional<GpuLoad> load;
  for (const GpuGoal& goal : gpu_goals()) {
    if (load && *load == goal.load) continue;
    load = goal.load;
    BenchOptions of_load = options;
    of_load.token_counts = {load->num_tokens};
    of_load.hidden = load->hidden;
    of_load.num_experts = load->num_experts;
    of_load.dtype = std::string(load->dtype);
    setups.push_back(std::move(make_bench_setups(of_load, num_ranks).front()));
  }
  return setups;
}

}  // namespace

int run_gpu_bench(const BenchOptions& options) {
  // Streams that share a queue wait for each other's kernels, and loading a kernel may wait for those that run; but they wait
  // for other ranks.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  const int num_gpus = count_gpus_apart();
  const RankSource source = choose_ranks(options.ranks, std::max(BenchOptions::kDefaultRanks, num_gpus), RankKind::kThreads);
  std::vector<BenchSetup> setups = make_setups(options, source.launch.num_ranks);
  for (BenchSetup& setup : setups) {
    setup.rank_description = source.description();
    setup.bound = false;
  }
  if (options.against == "nccl") find_nccl(source.launch.num_ranks, num_gpus);
  if (options.overlap) cublas_library();
  return start_ranks(source, [&](std::shared_ptr<Exchange> exchange) {
    const int local_rank = source.started ? source.started->local_rank : exchange->rank();
    const int device = local_rank % num_gpus;
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    const Group group =
        Group::create(exchange, {.timeout = options.ranks.timeout(),
                                 .domain = {},
                                 .device = device,
                                 .copy_engines = options.table || options.overlap || options.copies == "engine"});
    GpuStage stage(exchange, group, device);
    if (options.overlap) return run_overlap(stage, setups.front());
    return options.table ? run_goals(stage, setups) : run_load(stage, setups.front());
  });
}

}  // namespace tokenyard::cli
