// Wrong calls of one rank on a GPU: a clear error before anything is sent, so that the right call afterwards serves all ranks.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/cuda_error.hpp"
#include "kernels/cuda/device.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/engine/cuda_small_rank.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr int kClumsy = 1;  // the rank that gets it wrong

class CudaBadCalls : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

void expect_all_is_well(CudaSmallRank& rank) {
  EXPECT_FALSE(rank.group.status().has_value());
  rank.expect_sum_of(rank.plan);
  rank.expect_sum_of(rank.capacity_plan);
  EXPECT_FALSE(rank.group.status().has_value());
}

TEST_F(CudaBadCalls, with_memory_that_the_gpu_does_not_reach_are_refused) {
  if (cuda::current_device().reaches_pageable_memory) GTEST_SKIP() << "the GPU reaches all memory of this host";
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    std::vector<float> floats(4096);
    std::vector<std::int32_t> ids(4096);
    const ConstTensorView host_rows = tensor(std::as_const(floats).data(), {10, kHidden});
    const ConstTensorView host_weights = tensor(std::as_const(floats).data(), {10, kTopK});
    constexpr const char* kText = "lies in host memory that GPU";
    for (const Plan* plan : {&rank.plan, &rank.capacity_plan}) {
      if (rank.rank == kClumsy) {
        const auto expect_refused = [&](auto spoil) {
          DispatchArgs args = rank.dispatch(kAmple);
          spoil(args);
          expect_error([&] { plan->dispatch(args); }, ErrorCode::kInvalidArgument, kText);
        };
        expect_refused([&](DispatchArgs& args) { args.lanes = {&host_rows, 1}; });
        expect_refused([&](DispatchArgs& args) { args.topk_idx = tensor(std::as_const(ids).data(), {10, kTopK}); });
        expect_refused([&](DispatchArgs& args) { args.topk_weights = host_weights; });
        const TensorView host_output = tensor(floats.data(), {100, kHidden});
        expect_refused([&](DispatchArgs& args) { args.outputs = {&host_output, 1}; });
      }
      const Received received = plan->dispatch(rank.dispatch(kAmple));
      const Routing routing = received.routing();
      if (rank.rank == kClumsy) {
        CombineArgs args = rank.combine(routing, received.lane(0), kAmple);
        args.output = tensor(floats.data(), {10, kHidden});
        expect_error([&] { plan->combine(args); }, ErrorCode::kInvalidArgument, kText);
        args = rank.combine(routing, received.lane(0), kAmple);
        args.biases[1] = host_rows;
        expect_error([&] { plan->combine(args); }, ErrorCode::kInvalidArgument, kText);
        args = rank.combine(routing, tensor(std::as_const(floats).data(), {100, kHidden}), kAmple);
        expect_error([&] { plan->combine(args); }, ErrorCode::kInvalidArgument, kText);
      }
      plan->combine(rank.combine(routing, received.lane(0), kAmple));
      rank.finish();
      rank.expect_sum();

      // Such tensors can only be judged when the others are on their way, who are served all the same.
      DispatchArgs args = rank.dispatch(kAmple);
      const TensorView right = rank.zeros({100, kHidden});
      args.allocate = [&](const RecvSizes&, std::span<TensorView> outputs) {
        outputs[0] = rank.rank == kClumsy ? tensor(floats.data(), {100, kHidden}) : right;
      };
      if (rank.rank == kClumsy) {
        expect_error([&] { plan->dispatch(args); }, ErrorCode::kInvalidArgument, kText);
      } else {
        EXPECT_FALSE(plan->dispatch(args).live());
      }
      rank.finish();
    }
    expect_all_is_well(rank);
  });
}

TEST_F(CudaBadCalls, with_memory_of_another_gpu_are_refused) {
  SKIP_WITHOUT_GPUS(2);
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    // Taken and freed while no kernel waits for this rank, for which CUDA might wait.
    void* elsewhere = nullptr;
    const int other = 1 - rank.gpu->device();
    check_cuda(cudaSetDevice(other), "cudaSetDevice");
    check_cuda(cudaMalloc(&elsewhere, 4096), "cudaMalloc");
    rank.gpu->select();
    rank.meet();
    if (rank.rank == kClumsy) {
      DispatchArgs args = rank.dispatch(kAmple);
      args.topk_idx = tensor(static_cast<const std::int32_t*>(elsewhere), {10, kTopK});
      const std::string text =
          fmt::format("topk_idx lies in memory of GPU {}, and this rank's is GPU {}", other, rank.gpu->device());
      for (const Plan* plan : {&rank.plan, &rank.capacity_plan}) {
        expect_error([&] { plan->dispatch(args); }, ErrorCode::kInvalidArgument, text.c_str());
      }
    }
    expect_all_is_well(rank);
    rank.meet();
    cudaFree(elsewhere);
  });
}

TEST_F(CudaBadCalls, with_a_number_of_sms_that_there_is_not_are_refused) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    if (rank.rank == kClumsy) {
      for (const int num_sms : {-1, 100'000}) {
        DispatchArgs args = rank.dispatch(kAmple);
        args.execution.num_sms = num_sms;
        expect_error([&] { rank.plan.dispatch(args); }, ErrorCode::kInvalidArgument, "num_sms is");
      }
    }
    const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    const Routing routing = received.routing();
    CombineArgs args = rank.combine(routing, received.lane(0), kAmple);
    if (rank.rank == kClumsy) {
      args.execution.num_sms = -1;
      expect_error([&] { rank.plan.combine(args); }, ErrorCode::kInvalidArgument, "num_sms is -1 and GPU");
      args.execution.num_sms = 0;
    }
    rank.plan.combine(args);
    rank.finish();
    rank.expect_sum();
    expect_all_is_well(rank);
  });
}

TEST_F(CudaBadCalls, that_ask_whether_a_call_is_done_are_sent_to_its_stream) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    PendingDispatch dispatch = rank.capacity_plan.begin_dispatch(rank.dispatch(kAmple));
    expect_error([&] { dispatch.done(); }, ErrorCode::kUnsupported, "record an event (Execution::record)");
    expect_error([&] { dispatch.wait(1ms); }, ErrorCode::kUnsupported, "record an event");
    expect_error([&] { dispatch.on_done([] {}); }, ErrorCode::kUnsupported, "record an event");
    const Received received = dispatch.complete();
    const Routing routing = received.routing();
    PendingCombine combine = rank.capacity_plan.begin_combine(rank.combine(routing, received.lane(0), kAmple));
    expect_error([&] { combine.done(); }, ErrorCode::kUnsupported, "record an event");
    combine.complete();
    rank.finish();
    rank.expect_sum();
    expect_all_is_well(rank);
  });
}

TEST_F(CudaBadCalls, in_a_slot_whose_rows_are_still_read_in_place_are_refused) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int round = 0; round < 20; ++round) {
      Received received = rank.capacity_plan.dispatch(rank.dispatch(kAmple));
      const int slot = received.slot();
      const Routing routing = received.routing();
      PendingCombine pending = rank.capacity_plan.begin_combine(rank.combine(routing, received.lane(0), kAmple));
      received.release();
      DispatchArgs again = rank.cached(routing, kAmple);
      again.slot = slot;
      expect_error([&] { rank.capacity_plan.dispatch(again); }, ErrorCode::kInvalidArgument,
                   "are still read by a combine that was begun");
      pending.complete();
      const Received next = rank.capacity_plan.dispatch(again);  // the slot has become free
      EXPECT_EQ(next.slot(), slot);
      rank.finish();
      rank.expect_sum();
    }
  });
}

TEST_F(CudaBadCalls, that_cannot_be_captured_say_so_and_harm_nobody) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    expect_all_is_well(rank);
    const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    const Routing routing = received.routing();
    rank.finish();
    rank.capture([&] {
      expect_error([&] { rank.plan.dispatch(rank.dispatch(kAmple)); }, ErrorCode::kUnsupported,
                   "cannot be captured in a graph, because its slots grow");
    });
    const CombineArgs args = rank.combine(routing, received.lane(0), kAmple);
    rank.capture([&] { expect_error([&] { rank.plan.combine(args); }, ErrorCode::kUnsupported, "cannot be captured"); });
    rank.plan.combine(args);
    rank.finish();
    rank.expect_sum();
    expect_all_is_well(rank);
  });
}

TEST_F(CudaBadCalls, that_would_take_memory_while_they_are_captured_are_refused) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    // More than a plan has memory for from the beginning.
    std::vector<Routing> routings;
    const auto take_routing = [&] { routings.push_back(rank.capacity_plan.dispatch(rank.dispatch(kAmple)).routing()); };
    for (int i = 0; i < 4; ++i) take_routing();
    rank.finish();
    for (int repetition = 0; repetition < 2; ++repetition) {
      rank.capture([&] {
        expect_error([&] { rank.capacity_plan.dispatch(rank.dispatch(kAmple)); }, ErrorCode::kUnsupported,
                     "cannot be done while a stream is captured: make the same call once before capturing it, with as many "
                     "Routings alive");
      });
    }
    EXPECT_FALSE(rank.group.status().has_value());
    for (int i = 0; i < 4; ++i) take_routing();
    rank.finish();
    expect_all_is_well(rank);
  });
}

TEST_F(CudaBadCalls, that_are_captured_before_those_whose_memory_they_need_are_over_are_refused) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    expect_all_is_well(rank);
    const auto dispatch = [&] { rank.capacity_plan.dispatch(rank.dispatch(kAmple)); };
    rank.meet();
    enqueue_delay(rank.gpu->stream(), 300ms);
    for (int i = 0; i < 5; ++i) dispatch();
    rank.capture([&] { expect_error(dispatch, ErrorCode::kUnsupported, "and synchronise with its stream"); });
    rank.finish();
    rank.capture(dispatch);
    expect_all_is_well(rank);
  });
}

// A kernel that packs would wait for copies that the host asks for when the kernel has ended. CUDA itself has looked at the
// variable long before.
TEST_F(CudaBadCalls, by_copy_engines_are_refused_where_launches_block) {
  check_cuda(cudaFree(nullptr), "cudaFree");
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
  run_cuda_threads(1, [](CudaSmallRank& rank) {
    unsetenv("CUDA_LAUNCH_BLOCKING");
    DispatchArgs args = rank.dispatch(kAmple);
    args.execution.copies = Copies::kEngine;
    expect_error([&] { rank.plan.dispatch(args); }, ErrorCode::kUnsupported, "CUDA_LAUNCH_BLOCKING is set");
    expect_all_is_well(rank);
  });
  unsetenv("CUDA_LAUNCH_BLOCKING");
}

// An event that the capture does not know of breaks the call off between two steps.
TEST_F(CudaBadCalls, that_break_a_capture_leave_slot_and_group_as_they_were) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    expect_all_is_well(rank);
    const cudaStream_t stream = rank.gpu->stream();
    check_cuda(cudaEventRecord(rank.gpu->event_before(), rank.gpu->other_stream()), "cudaEventRecord");
    for (int repetition = 0; repetition < 3; ++repetition) {
      check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
      DispatchArgs args = rank.dispatch(kAmple);
      args.execution.wait_for = rank.gpu->event_before();
      expect_error([&] { rank.capacity_plan.dispatch(args); }, ErrorCode::kSystem, "cudaStreamWaitEvent");
      cudaGraph_t graph = nullptr;
      cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
    }
    rank.meet();
    EXPECT_FALSE(rank.group.status().has_value());
    expect_all_is_well(rank);
  });
}

}  // namespace
}  // namespace tokenyard::test
