// What a benchmark on GPUs tells people and programs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/gpu_goals.hpp"
#include "cli/record.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

// Where ranks run, and what the link between them carries.
struct GpuScene {
  std::string gpu;  // its name
  int num_gpus = 1;
  int num_ranks_on_gpu = 1;             // of rank 0's
  std::optional<double> copy_engine{};  // GB/s per direction, all ranks sending; nothing for a single rank
  std::optional<double> copy_engine_one_way{};
};

// A step over all ranks.
struct GpuResult {
  std::string operation;
  bool copy_out = false;
  int num_sms = 0;                   // 0: chosen by the library
  std::string copies;                // as --copies; empty: not the library's
  std::vector<double> microseconds;  // by iteration, of the slowest rank
  std::int64_t checked_rows = 0;
  std::int64_t wrong_rows = 0;
};

// Bytes of rows that the busiest rank sends to or receives from others in an operation, whichever is more.
std::int64_t link_bytes(const BenchSetup& setup, const std::string& operation);

// The line of a step, under the names of the columns.
Record to_gpu_result(const BenchSetup& setup, const GpuScene& scene, const GpuResult& result);

// The same beside its goal: a column for the load and two for the goal and whether it is reached.
Record to_goal_result(const BenchSetup& setup, const GpuScene& scene, const GpuResult& result, const GpuGoal& goal);

// The configuration, under names that stand in the JSON as they are.
Record gpu_bench_header(const BenchSetup& setup, const GpuScene& scene);
Record gpu_goals_header(const BenchSetup& setup, const GpuScene& scene);

// Lines of the header for people.
std::string scene_line(const GpuScene& scene);
std::string measuring_lines(const BenchSetup& setup);

// The header for people: what is measured, and what the columns mean.
std::string gpu_bench_heading(const BenchSetup& setup, const GpuScene& scene);
std::string gpu_goals_heading(const BenchSetup& setup, const GpuScene& scene);

}  // namespace tokenyard::cli
