#include "cli/gpu_bench_report.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "cli/bench_configuration.hpp"
#include "cli/gpu_operations.hpp"
#include "cli/statistics.hpp"
#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

// Rows that the busiest rank sends to or receives from others.
std::int64_t busiest_link_rows(const BenchSetup& setup) {
  std::vector<std::int64_t> sent(static_cast<std::size_t>(setup.num_ranks));
  std::int64_t most = 0;
  for (int rank = 0; rank < setup.num_ranks; ++rank) {
    std::int64_t received = 0;
    for (const ExpectedRow& row : setup.expected[static_cast<std::size_t>(rank)].rows) {
      if (row.source == rank) continue;
      ++received;
      ++sent[static_cast<std::size_t>(row.source)];
    }
    most = std::max(most, received);
  }
  return std::max(most, *std::max_element(sent.begin(), sent.end()));
}

std::string column_lines() {
  return "\n"
         "  copies          what moves rows, as --copies\n"
         "  p50_us, p99_us  microseconds of the slowest rank of each iteration, from the common start to the last rank's end:\n"
         "                  median and 99th percentile\n"
         "  link_bytes      bytes of rows that the busiest rank sends to others, or receives\n"
         "  gb_per_s        link_bytes / p50_us, in 10^9 bytes per second\n"
         "  of_copy_engine  gb_per_s as a fraction of what copy engines carried in the same run, both directions busy\n"
         "  checked_rows    rows compared with what plain loops expect, - without --check; wrong_rows: those that differ\n"
         "\n";
}

Record scene_record(const GpuScene& scene) {
  return {{"gpu", scene.gpu},
          {"gpus", scene.num_gpus},
          {"ranks_per_gpu", scene.num_ranks_on_gpu},
          {"copy_engine_gb_per_s", scene.copy_engine ? Value(*scene.copy_engine) : Value()},
          {"copy_engine_one_way_gb_per_s", scene.copy_engine_one_way ? Value(*scene.copy_engine_one_way) : Value()}};
}

void append(Record* record, const Record& fields) { record->insert(record->end(), fields.begin(), fields.end()); }

std::string load_text(const GpuLoad& load) {
  return fmt::format("{} x {} {}", with_commas(load.num_tokens), with_commas(load.hidden), load.dtype);
}

}  // namespace

std::string scene_line(const GpuScene& scene) {
  std::string line = fmt::format("  GPUs        {} x {}", scene.num_gpus, scene.gpu);
  if (scene.num_ranks_on_gpu > 1) {
    line +=
        fmt::format(", {} ranks on each: their rows cross no link, and the times show a trend only", scene.num_ranks_on_gpu);
  }
  line += "\n";
  if (scene.copy_engine) {
    line +=
        fmt::format("  copy engine {:.0f} GB/s per direction with all ranks sending to the next, {:.0f} with rank 0 alone\n",
                    *scene.copy_engine, scene.copy_engine_one_way.value_or(0));
  }
  return line;
}

std::string measuring_lines(const BenchSetup& setup) {
  return fmt::format("  iterations  {} after {} that warm up; before each, {}the GPUs meet{}\n", setup.num_iterations,
                     setup.num_warmups, setup.cold_caches ? "the second caches are swept, and " : "",
                     setup.options.check ? "; rows of the first and the last are checked" : "");
}

std::int64_t link_bytes(const BenchSetup& setup, const std::string& operation) {
  const std::int64_t num_rows = busiest_link_rows(setup);
  if (operation == kGraph) return num_rows * (setup.dispatch_row_bytes + setup.combine_row_bytes);
  return num_rows * (operation.starts_with(kCombine) ? setup.combine_row_bytes : setup.dispatch_row_bytes);
}

Record to_gpu_result(const BenchSetup& setup, const GpuScene& scene, const GpuResult& result) {
  const Summary summary = summarize(result.microseconds);
  const std::int64_t num_bytes = link_bytes(setup, result.operation);
  const double rate = static_cast<double>(num_bytes) / summary.p50 * 1e-3;
  const bool is_checked = result.checked_rows > 0;
  return {{"operation", result.operation},
          {"rows_in", result.copy_out ? "tensors" : "slot"},
          {"copies", result.copies.empty() ? Value() : Value(result.copies)},
          {"sms", result.num_sms > 0 ? Value(result.num_sms) : Value()},
          {"p50_us", summary.p50},
          {"p99_us", summary.p99},
          {"link_bytes", num_bytes},
          {"gb_per_s", rate},
          {"of_copy_engine", scene.copy_engine ? Value(rate / *scene.copy_engine) : Value()},
          {"checked_rows", is_checked ? Value(result.checked_rows) : Value()},
          {"wrong_rows", is_checked ? Value(result.wrong_rows) : Value()}};
}

Record to_goal_result(const BenchSetup& setup, const GpuScene& scene, const GpuResult& result, const GpuGoal& goal) {
  Record record{{"load", load_text(goal.load)}};
  const bool has_goal = setup.num_ranks == 2 && scene.num_ranks_on_gpu == 1;
  for (const auto& field : to_gpu_result(setup, scene, result)) {
    const bool is_time = field.first == "p50_us";
    if (is_time) record.emplace_back("goal_us", has_goal ? Value(goal.microseconds) : Value());
    record.push_back(field);
    if (is_time) record.emplace_back("reached", has_goal ? Value(field.second.real <= goal.microseconds) : Value());
  }
  return record;
}

Record gpu_bench_header(const BenchSetup& setup, const GpuScene& scene) {
  Record header =
      configuration_record(setup, {{"tokens", setup.num_tokens}},
                           {{"output", setup.options.output}, {"device", "cuda"}, {"copies", setup.options.copies}});
  append(&header, scene_record(scene));
  return header;
}

Record gpu_goals_header(const BenchSetup& setup, const GpuScene& scene) {
  Record header{{"tool", "tokenyard bench"},
                {"version", version()},
                {"device", "cuda"},
                {"ranks", setup.num_ranks},
                {"launch", setup.rank_description},
                {"top_k", setup.options.top_k},
                {"routing", setup.options.routing},
                {"seed", setup.options.seed},
                {"copies", setup.options.copies},
                {"iters", setup.num_iterations},
                {"warmup", setup.num_warmups},
                {"check", setup.options.check}};
  append(&header, scene_record(scene));
  return header;
}

std::string gpu_bench_heading(const BenchSetup& setup, const GpuScene& scene) {
  const BenchOptions& options = setup.options;
  std::string text = fmt::format("tokenyard {} bench: {} mode on GPUs, {}\n", version(), options.mode, setup.rank_description);
  text += scene_line(scene);
  text += shape_line(setup, with_commas(setup.num_tokens));
  text += fmt::format("  routing     {}, seed {}\n", options.routing, options.seed);
  text += rows_line(setup);
  text += measuring_lines(setup);
  text +=
      "\n"
      "  dispatch_cached    other tensors the way that an earlier dispatch went; time of the stream\n"
      "  dispatch           from top-k ids to rows in a result of the right size, whose size the host waits for; wall clock\n"
      "  dispatch_capacity  from top-k ids to rows in a result of fixed capacity, without the host; time of the stream\n";
  if (setup.can_combine_in_place()) {
    text +=
        "  combine_in_place   from rows in the slot, read there by their sources, to one sum per token; time of the stream\n";
  }
  if (setup.can_combine()) text += "  combine            the same from rows in an ordinary tensor, which travel home first\n";
  if (options.graph) text += "  graph              a replay of dispatch_capacity and combine, captured in one CUDA graph\n";
  if (options.against == "nccl") {
    text += "  nccl_alltoallv     the same rows, packed before, by ncclSend and ncclRecv in one NCCL group\n";
  }
  return text + column_lines();
}

std::string gpu_goals_heading(const BenchSetup& setup, const GpuScene& scene) {
  std::string text =
      fmt::format("tokenyard {} bench: the goals of throughput mode on GPUs, {}\n", version(), setup.rank_description);
  text += scene_line(scene);
  text += fmt::format("  loads       tokens per rank x hidden; top-{} of 256 experts (128 for hidden 2,048), {} ids, seed {}\n",
                      setup.options.top_k, setup.options.routing, setup.options.seed);
  text += measuring_lines(setup);
  text +=
      "  goals       for two ranks on two H200 of one host, - for others; dispatch is timed by the wall clock, from top-k\n"
      "              ids to a result of the right size, all else by the stream\n";
  return text + column_lines();
}

}  // namespace tokenyard::cli
