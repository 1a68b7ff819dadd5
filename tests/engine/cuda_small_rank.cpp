#include "tests/engine/cuda_small_rank.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/cuda_error.hpp"
#include "tests/engine/meeting_point.hpp"
#include "tests/engine/shared_report.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumSms = 4;  // few enough for the ranks of all plans to wait on one GPU

}  // namespace

Shape capacity_shape(int num_ranks) {
  Shape shape = small_shape(num_ranks);
  shape.overflow = Overflow::kDrop;
  return shape;
}

CudaSmallRank::CudaSmallRank(std::shared_ptr<Exchange> exchange, GpuRank* gpu_in, std::function<void()> meet_in,
                             const Shape& shape)
    : rank(exchange->rank()),
      num_ranks(exchange->num_ranks()),
      gpu(gpu_in),
      meet(std::move(meet_in)),
      residence_(gpu, {.seed = 7, .rank = rank, .num_ranks = num_ranks}),
      input_(rank, num_ranks, 0),
      lane_(keep(input_.lanes[0])),
      ids_(keep(ConstTensorView(tensor(std::as_const(input_.ids).data(), {input_.num_tokens, kTopK})))),
      weights_(keep(ConstTensorView(tensor(std::as_const(input_.weights).data(), {input_.num_tokens, kTopK})))),
      output_(residence_.allocate(input_.rows.size() * sizeof(float))),
      group(make_group(std::move(exchange), &residence_)),
      plan(group.plan(shape)),
      capacity_plan(group.plan(capacity_shape(num_ranks))) {}

CudaSmallRank::~CudaSmallRank() { cudaStreamSynchronize(gpu->stream()); }

Group CudaSmallRank::make_group(std::shared_ptr<Exchange> exchange, GpuResidence* residence) {
  GroupOptions options = patient();
  residence->choose(&options);
  options.num_sms = kNumSms;
  return Group::create(std::move(exchange), options);
}

template <class Void>
BasicTensorView<Void> CudaSmallRank::keep(const BasicTensorView<Void>& tensor) {
  const std::size_t num_bytes = tensor.num_elements() * size_of(tensor.dtype);
  kept_.push_back(residence_.allocate(num_bytes));
  TensorMemory& memory = *kept_.back();
  std::memcpy(memory.bytes(), tensor.data, num_bytes);
  BasicTensorView<Void> view = tensor;
  view.data = memory.bytes();
  return memory.for_call(view);
}

DispatchArgs CudaSmallRank::dispatch(std::chrono::milliseconds timeout) const {
  DispatchArgs args;
  args.lanes = {&lane_, 1};
  args.topk_idx = ids_;
  args.timeout = timeout;
  args.execution.stream = gpu->stream();
  return args;
}

DispatchArgs CudaSmallRank::dispatch_with_weights(std::chrono::milliseconds timeout) const {
  DispatchArgs args = dispatch(timeout);
  args.topk_weights = weights_;
  return args;
}

DispatchArgs CudaSmallRank::cached(const Routing& routing, std::chrono::milliseconds timeout) const {
  DispatchArgs args = dispatch(timeout);
  args.topk_idx = {};
  args.routing = &routing;
  return args;
}

CombineArgs CudaSmallRank::combine(const Routing& routing, const ConstTensorView& rows, std::chrono::milliseconds timeout) {
  std::memset(output_->bytes(), 0xff, output_->num_bytes());
  CombineArgs args;
  args.routing = &routing;
  args.rows = rows;
  args.output = output_->for_call(TensorView(output_->bytes(), DataType::kFloat32, {input_.num_tokens, kHidden}));
  args.timeout = timeout;
  args.execution.stream = gpu->stream();
  return args;
}

ConstTensorView CudaSmallRank::ids_with(std::int64_t pair, std::int32_t id) {
  std::vector<std::int32_t> ids = input_.ids;
  ids[static_cast<std::size_t>(pair)] = id;
  return keep(ConstTensorView(tensor(std::as_const(ids).data(), {input_.num_tokens, kTopK})));
}

TensorView CudaSmallRank::zeros(std::initializer_list<std::int64_t> shape) {
  std::int64_t num_values = 1;
  for (const std::int64_t extent : shape) num_values *= extent;
  std::vector<float> values(static_cast<std::size_t>(num_values));
  return keep(TensorView(values.data(), DataType::kFloat32, shape));
}

void CudaSmallRank::finish() const { check_cuda(cudaStreamSynchronize(gpu->stream()), "cudaStreamSynchronize"); }

void CudaSmallRank::expect_sum_of(const Plan& plan_of_sum, Copies copies) {
  DispatchArgs dispatch_args = dispatch(kAmple);
  dispatch_args.execution.copies = copies;
  const Received received = plan_of_sum.dispatch(dispatch_args);
  const Routing routing = received.routing();
  CombineArgs combine_args = combine(routing, received.lane(0), kAmple);
  combine_args.execution.copies = copies;
  plan_of_sum.combine(combine_args);
  finish();
  EXPECT_FALSE(group.status().has_value());
  expect_sum();
}

void CudaSmallRank::expect_sum() {
  output_->take_back();
  SmallOutput output(input_);
  std::memcpy(output.values.data(), output_->bytes(), output_->num_bytes());
  output.expect_sum(input_, num_ranks);
}

void CudaSmallRank::capture(const std::function<void()>& body) const {
  check_cuda(cudaStreamBeginCapture(gpu->stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  body();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(gpu->stream(), &graph), cudaSuccess) << "the capture itself is unharmed";
  if (graph != nullptr) cudaGraphDestroy(graph);
}

void CudaSmallRank::recover_and_go_on() {
  meet();
  group.recover();
  EXPECT_FALSE(group.status().has_value());
  for (int round = 0; round < 3; ++round) expect_round_trip(plan, rank, num_ranks, round, &residence_);
  for (int round = 0; round < 3; ++round) expect_sum_of(capacity_plan);
  for (int round = 0; round < 3 && residence_.has_engines(); ++round) expect_sum_of(plan, Copies::kEngine);
  meet();
}

void run_cuda_threads(int num_ranks, const std::function<void(CudaSmallRank&)>& body, const std::optional<Shape>& shape) {
  const auto& gpus = gpu_ranks(num_ranks);
  MeetingPoint meeting_point(num_ranks);
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank& gpu = *gpus[exchange->rank()];
    gpu.select();
    CudaSmallRank rank(std::move(exchange), &gpu, [&] { meeting_point.meet(); }, shape.value_or(small_shape(num_ranks)));
    body(rank);
  });
}

void run_cuda_processes(int num_ranks, const std::function<void(CudaSmallRank&)>& body) {
  const SharedReport<std::atomic<int>> num_met;
  const auto results = run_process_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank gpu(exchange->rank());
    int num_rounds = 0;
    const auto meet = [&] {
      const int num_needed = num_ranks * ++num_rounds;
      const Deadline limit(2 * ample_time());
      num_met->fetch_add(1);
      while (num_met->load() < num_needed) {
        if (limit.passed()) throw std::runtime_error("not all processes of the test came");
        std::this_thread::sleep_for(1ms);
      }
    };
    CudaSmallRank rank(std::move(exchange), &gpu, meet, small_shape(num_ranks));
    body(rank);
  });
  for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0) << "signal " << result.signal;
}

}  // namespace tokenyard::test
