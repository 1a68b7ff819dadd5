#include "cli/gpu_overlap.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "base/cuda_error.hpp"
#include "cli/gather.hpp"
#include "cli/gpu_bench_rank.hpp"
#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kSlot = 0;

}  // namespace

GpuOverlap::GpuOverlap(const BenchSetup& setup, GpuStage& stage)
    : setup_(setup),
      stage_(stage),
      plan_(stage.group().plan(sized_shape(setup))),
      tensors_(setup, stage.rank(), max_tensor_rows(setup), false, stage.stream()) {
  int least = 0;
  int greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  make_lane(&multiplying_, (least + greatest) / 2);
  make_lane(&urgent_, greatest);
  make_lane(&patient_, least);
  check_cuda(cudaEventCreateWithFlags(&fork_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  product_ = std::make_unique<GpuProduct>(multiplying_.stream);
  // Ranks that multiply at the same time share what power there is, as they will.
  stage_.settle();
  std::int64_t num_rows = product_->choose_num_rows();
  for (const auto& of_rank : gather(stage.exchange(), std::vector{num_rows}, stage.group().timeout())) {
    num_rows = std::max(num_rows, of_rank.at(0));
  }
  product_->set_num_rows(num_rows);
  DispatchArgs args = dispatch_args(stage_.stream(), {});
  args.routing = nullptr;
  args.topk_idx = tensors_.topk_idx();
  args.topk_weights = tensors_.topk_weights();
  routing_ = plan_.dispatch(args).routing();
  stage_.settle();
}

GpuOverlap::~GpuOverlap() {
  cudaStreamSynchronize(stage_.stream());
  product_.reset();
  for (const Lane* lane : {&multiplying_, &urgent_, &patient_}) {
    cudaStreamSynchronize(lane->stream);
    cudaEventDestroy(lane->begin);
    cudaEventDestroy(lane->end);
    cudaStreamDestroy(lane->stream);
  }
  cudaEventDestroy(fork_);
}

void GpuOverlap::make_lane(Lane* lane, int priority) {
  check_cuda(cudaStreamCreateWithPriority(&lane->stream, cudaStreamNonBlocking, priority), "cudaStreamCreateWithPriority");
  for (Event* event : {&lane->begin, &lane->end}) check_cuda(cudaEventCreate(event), "cudaEventCreate");
}

double GpuOverlap::Lane::microseconds() const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  return milliseconds * 1e3;
}

OverlapMeasurement GpuOverlap::measure(const OverlapStep& step) {
  stage_.settle();
  product_->use_sms(std::max(1, stage_.num_sms() - step.num_sms * stage_.num_ranks_on_gpu()));
  product_->enqueue();  // what cuBLAS loads for so many SMs, it loads now
  check_cuda(cudaStreamSynchronize(multiplying_.stream), "cudaStreamSynchronize");
  stage_.settle();
  OverlapMeasurement measurement;
  const int num_runs = setup_.num_warmups + setup_.num_iterations;
  for (int i = 0; i < num_runs; ++i) {
    const bool is_warmup = i < setup_.num_warmups;
    const bool takes_memory = is_warmup || i == 0;
    const bool is_checked = setup_.options.check && i + 1 == num_runs;
    OverlapMeasurement discarded;
    OverlapMeasurement* const kept = is_warmup ? &discarded : &measurement;
    run(step, What::kProduct, takes_memory, false, kept);
    run(step, What::kCall, takes_memory, false, kept);
    run(step, What::kBoth, takes_memory, is_checked, kept);
  }
  stage_.settle();
  return measurement;
}

void GpuOverlap::run(const OverlapStep& step, What what, bool is_warmup, bool is_checked, OverlapMeasurement* measurement) {
  const Lane& calling = call_lane(step);
  const Stream stream = stage_.stream();
  const bool combines = step.operation == kCombineInPlace;
  const OverlapStep preparing{.operation = kDispatchCached};
  Received received;
  std::optional<CombineArgs> combine;
  if (what != What::kProduct && combines) {
    received = plan_.dispatch(dispatch_args(stream, preparing));
    const TensorView rows = received.combine_buffer();
    tensors_.write_expert_rows_to(rows, stream);
    if (is_checked) tensors_.poison(std::array{tensors_.combined()}, stream);
    combine = combine_args(calling.stream, step, rows);
  } else if (is_checked) {
    // The slot is poisoned through a result that lies there.
    const Received before = plan_.dispatch(dispatch_args(stream, preparing));
    for (std::size_t lane = 0; lane < setup_.shape.lanes.size(); ++lane) {
      tensors_.poison(std::array{before.lane(static_cast<int>(lane))}, stream);
    }
  }
  stage_.time_in_stream(setup_.cold_caches, is_warmup, [&] {
    check_cuda(cudaEventRecord(fork_, stream), "cudaEventRecord");
    const auto multiply = [&] {
      if (what != What::kCall) enqueue(multiplying_, [&] { product_->enqueue(); });
    };
    if (!step.is_urgent) multiply();
    if (what != What::kProduct) {
      enqueue(calling, [&] {
        if (combine.has_value()) {
          plan_.combine(*combine);
        } else {
          received = plan_.dispatch(dispatch_args(calling.stream, step));
        }
      });
    }
    if (step.is_urgent) multiply();
  });
  switch (what) {
    case What::kProduct: measurement->product_alone.push_back(multiplying_.microseconds()); return;
    case What::kCall: measurement->call_alone.push_back(calling.microseconds()); return;
    case What::kBoth:
      measurement->product_beside.push_back(multiplying_.microseconds());
      measurement->call_beside.push_back(calling.microseconds());
  }
  if (!is_checked) return;
  if (combines) {
    measurement->wrong_rows += tensors_.count_wrong_combined(Returned::kExpertRows, stream);
    measurement->checked_rows += setup_.num_tokens;
  } else {
    measurement->wrong_rows += tensors_.count_wrong(received, stream);
    measurement->checked_rows +=
        static_cast<std::int64_t>(setup_.expected[static_cast<std::size_t>(stage_.rank())].rows.size());
  }
}

void GpuOverlap::enqueue(const Lane& lane, const std::function<void()>& work) {
  check_cuda(cudaStreamWaitEvent(lane.stream, fork_, 0), "cudaStreamWaitEvent");
  check_cuda(cudaEventRecord(lane.begin, lane.stream), "cudaEventRecord");
  work();
  check_cuda(cudaEventRecord(lane.end, lane.stream), "cudaEventRecord");
  check_cuda(cudaStreamWaitEvent(stage_.stream(), lane.end, 0), "cudaStreamWaitEvent");
}

DispatchArgs GpuOverlap::dispatch_args(Stream stream, const OverlapStep& step) const {
  DispatchArgs args;
  args.lanes = tensors_.lanes();
  args.routing = &routing_;
  args.slot = kSlot;
  args.execution = {.stream = stream, .num_sms = step.num_sms, .copies = step.copies};
  return args;
}

CombineArgs GpuOverlap::combine_args(Stream stream, const OverlapStep& step, const ConstTensorView& rows) const {
  CombineArgs args;
  args.routing = &routing_;
  args.rows = rows;
  args.output = tensors_.combined();
  args.slot = kSlot;
  args.execution = {.stream = stream, .num_sms = step.num_sms, .copies = step.copies};
  return args;
}

}  // namespace tokenyard::cli
