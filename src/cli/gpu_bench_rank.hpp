// One rank of a benchmark on GPUs: the plans and tensors of one load, and the operations on them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/gpu_bench_tensors.hpp"
#include "cli/gpu_stage.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::cli {

// An operation and how it is to run.
struct GpuStep {
  std::string operation;  // of gpu_operations.hpp
  bool copy_out = false;  // dispatch: results in ordinary tensors rather than in the slot
  int num_sms = 0;        // 0: the library chooses
  Copies copies = Copies::kChosen;
};

// What one rank measured of one step.
struct GpuMeasurement {
  std::vector<double> microseconds;  // by iteration, warm-ups not counted
  std::int64_t checked_rows = 0;     // with --check: those of the first and the last iteration
  std::int64_t wrong_rows = 0;
};

// The plan for sized output, and one for capacity output with room for the busiest rank of the setup.
Shape sized_shape(const BenchSetup& setup);
Shape capacity_shape(const BenchSetup& setup);

// Rows of the tensors that dispatch fills, whatever the plan; for kExpertPadded the shape says it.
std::int64_t max_tensor_rows(const BenchSetup& setup);

class GpuBenchRank {
 public:
  // Collective. `setup` must outlive it, and so must the stage. Steps that copy out need `copies_out`.
  GpuBenchRank(const BenchSetup& setup, GpuStage& stage, bool copies_out);
  ~GpuBenchRank();
  GpuBenchRank(const GpuBenchRank&) = delete;
  GpuBenchRank& operator=(const GpuBenchRank&) = delete;

  // Collective: the same step on all ranks.
  GpuMeasurement measure(const GpuStep& step);

 private:
  class Graph;

  double run(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement);
  double run_dispatch(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement);
  double run_combine(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement);
  double run_graph(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement);
  void capture(const GpuStep& step);
  // What the graph's combine does where it can: the received rows are summed in the slot. Otherwise the experts' rows come from
  // an ordinary tensor.
  bool sums_received_rows(const GpuStep& step) const;
  void check_received(const Received& received, GpuMeasurement* measurement);
  void check_combined(Returned returned, GpuMeasurement* measurement);

  DispatchArgs dispatch_args(const GpuStep& step, const Routing* cached) const;
  CombineArgs combine_args(const GpuStep& step, const Routing& routing, const ConstTensorView& rows) const;
  Execution execution(const GpuStep& step) const;

  const BenchSetup& setup_;
  GpuStage& stage_;
  Plan sized_plan_;
  Plan capacity_plan_;
  GpuBenchTensors tensors_;
  Routing routing_;  // of the sized plan
  std::unique_ptr<Graph> graph_;
};

}  // namespace tokenyard::cli
