#include "cli/gpu_bench_rank.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "base/cuda_error.hpp"
#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kSlot = 0;  // of all calls: the other one stays free

std::int64_t busiest_rank_rows(const BenchSetup& setup) {
  std::size_t num_rows = 1;
  for (const ExpectedRank& expected : setup.expected) num_rows = std::max(num_rows, expected.rows.size());
  return static_cast<std::int64_t>(num_rows);
}

}  // namespace

Shape sized_shape(const BenchSetup& setup) { return setup.shape; }

Shape capacity_shape(const BenchSetup& setup) {
  Shape shape = setup.shape;
  shape.overflow = Overflow::kDrop;
  shape.recv_capacity = busiest_rank_rows(setup);
  return shape;
}

std::int64_t max_tensor_rows(const BenchSetup& setup) {
  const std::int64_t num_rows = busiest_rank_rows(setup);
  if (setup.shape.layout == Layout::kCompact) return num_rows;
  int num_local_experts = 0;
  for (const ExpectedRank& expected : setup.expected)
    num_local_experts = std::max(num_local_experts, expected.num_local_experts);
  return num_rows * setup.shape.top_k + std::int64_t{num_local_experts} * (setup.shape.expert_alignment - 1);
}

// A dispatch with capacity output and the combine behind it, captured once.
class GpuBenchRank::Graph {
 public:
  Graph(const std::function<Received()>& enqueue, Stream stream) {
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    try {
      received_ = enqueue();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    const cudaError_t result = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(result, "cudaGraphInstantiate");
    check_cuda(cudaGraphUpload(executable_, stream), "cudaGraphUpload");
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(Stream stream) const { check_cuda(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch"); }
  const Received& received() const { return received_; }  // whose views every replay writes anew

 private:
  Received received_;
  cudaGraphExec_t executable_ = nullptr;
};

GpuBenchRank::GpuBenchRank(const BenchSetup& setup, GpuStage& stage, bool copies_out)
    : setup_(setup),
      stage_(stage),
      sized_plan_(stage.group().plan(sized_shape(setup))),
      capacity_plan_(stage.group().plan(capacity_shape(setup))),
      tensors_(setup, stage.rank(), max_tensor_rows(setup), copies_out, stage.stream()) {
  stage_.settle();
  routing_ = sized_plan_.dispatch(dispatch_args({.operation = kDispatch}, nullptr)).routing();
  stage_.settle();
}

GpuBenchRank::~GpuBenchRank() { cudaStreamSynchronize(stage_.stream()); }

GpuMeasurement GpuBenchRank::measure(const GpuStep& step) {
  if (step.operation == kGraph) capture(step);
  stage_.settle();
  GpuMeasurement measurement;
  const int num_runs = setup_.num_warmups + setup_.num_iterations;
  for (int i = 0; i < num_runs; ++i) {
    const bool is_warmup = i < setup_.num_warmups;
    const bool is_checked = setup_.options.check && (i == 0 || i + 1 == num_runs);
    const double microseconds = run(step, is_warmup || i == 0, is_checked, &measurement);
    if (!is_warmup) measurement.microseconds.push_back(microseconds);
  }
  stage_.settle();
  graph_.reset();
  return measurement;
}

double GpuBenchRank::run(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement) {
  if (step.operation == kGraph) return run_graph(step, is_warmup, is_checked, measurement);
  if (step.operation == kCombine || step.operation == kCombineInPlace)
    return run_combine(step, is_warmup, is_checked, measurement);
  return run_dispatch(step, is_warmup, is_checked, measurement);
}

double GpuBenchRank::run_dispatch(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement) {
  const Routing* cached = step.operation == kDispatchCached ? &routing_ : nullptr;
  const Plan& plan = step.operation == kDispatchCapacity ? capacity_plan_ : sized_plan_;
  const DispatchArgs args = dispatch_args(step, cached);
  if (is_checked) {
    // The slot is poisoned through a result that lies there.
    const Received before = plan.dispatch(args);
    for (std::size_t lane = 0; lane < setup_.shape.lanes.size(); ++lane) {
      tensors_.poison(std::array{before.lane(static_cast<int>(lane))}, stage_.stream());
    }
  }
  Received received;
  const auto dispatch = [&] { received = plan.dispatch(args); };
  const double microseconds = step.operation == kDispatch ? stage_.time_on_clock(setup_.cold_caches, dispatch)
                                                          : stage_.time_in_stream(setup_.cold_caches, is_warmup, dispatch);
  if (is_checked) check_received(received, measurement);
  return microseconds;
}

double GpuBenchRank::run_combine(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement) {
  const Received received = sized_plan_.dispatch(dispatch_args({.operation = kDispatchCached}, &routing_));
  ConstTensorView rows = tensors_.expert_rows(received);
  if (step.operation == kCombineInPlace) {
    const TensorView in_place = received.combine_buffer();
    tensors_.write_expert_rows_to(in_place, stage_.stream());
    rows = in_place;
  }
  if (is_checked) tensors_.poison(std::array{tensors_.combined()}, stage_.stream());
  const CombineArgs args = combine_args(step, routing_, rows);
  const double microseconds = stage_.time_in_stream(setup_.cold_caches, is_warmup, [&] { sized_plan_.combine(args); });
  if (is_checked) check_combined(Returned::kExpertRows, measurement);
  return microseconds;
}

void GpuBenchRank::capture(const GpuStep& step) {
  const auto enqueue = [&] {
    Received received = capacity_plan_.dispatch(dispatch_args(step, nullptr));
    const ConstTensorView rows =
        sums_received_rows(step) ? ConstTensorView(received.combine_buffer()) : tensors_.expert_rows(received);
    capacity_plan_.combine(combine_args(step, received.routing(), rows));
    return received;
  };
  enqueue().release();  // once as usual: what is taken at the first use is taken then
  stage_.settle();
  graph_ = std::make_unique<Graph>(enqueue, stage_.stream());
}

double GpuBenchRank::run_graph(const GpuStep& step, bool is_warmup, bool is_checked, GpuMeasurement* measurement) {
  const Received& received = graph_->received();
  if (is_checked) {
    for (std::size_t lane = 0; lane < setup_.shape.lanes.size(); ++lane) {
      tensors_.poison(std::array{received.lane(static_cast<int>(lane))}, stage_.stream());
    }
    tensors_.poison(std::array{tensors_.combined()}, stage_.stream());
  }
  const double microseconds = stage_.time_in_stream(setup_.cold_caches, is_warmup, [&] { graph_->launch(stage_.stream()); });
  if (is_checked) {
    check_received(received, measurement);
    check_combined(sums_received_rows(step) ? Returned::kReceivedRows : Returned::kExpertRows, measurement);
  }
  return microseconds;
}

bool GpuBenchRank::sums_received_rows(const GpuStep& step) const { return setup_.can_combine_in_place() && !step.copy_out; }

void GpuBenchRank::check_received(const Received& received, GpuMeasurement* measurement) {
  measurement->wrong_rows += tensors_.count_wrong(received, stage_.stream());
  measurement->checked_rows += static_cast<std::int64_t>(setup_.expected[static_cast<std::size_t>(stage_.rank())].rows.size());
}

void GpuBenchRank::check_combined(Returned returned, GpuMeasurement* measurement) {
  measurement->wrong_rows += tensors_.count_wrong_combined(returned, stage_.stream());
  measurement->checked_rows += setup_.num_tokens;
}

DispatchArgs GpuBenchRank::dispatch_args(const GpuStep& step, const Routing* cached) const {
  DispatchArgs args;
  args.lanes = tensors_.lanes();
  args.routing = cached;
  if (cached == nullptr) {
    args.topk_idx = tensors_.topk_idx();
    args.topk_weights = tensors_.topk_weights();
  }
  args.slot = kSlot;
  if (step.copy_out) args.outputs = tensors_.outputs();
  args.execution = execution(step);
  return args;
}

CombineArgs GpuBenchRank::combine_args(const GpuStep& step, const Routing& routing, const ConstTensorView& rows) const {
  CombineArgs args;
  args.routing = &routing;
  args.rows = rows;
  args.use_routing_weights = setup_.shape.layout != Layout::kCompact;
  args.output = tensors_.combined();
  args.slot = kSlot;
  args.execution = execution(step);
  return args;
}

Execution GpuBenchRank::execution(const GpuStep& step) const {
  return {.stream = stage_.stream(), .num_sms = step.num_sms, .copies = step.copies};
}

}  // namespace tokenyard::cli
