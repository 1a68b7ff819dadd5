// Failures of ranks that are threads on GPUs.
#include <gtest/gtest.h>

#include <thread>

#include "base/cuda_error.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/engine/cuda_failure_stories.hpp"
#include "tests/engine/meeting_point.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/ample_time.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;
constexpr std::chrono::milliseconds kShort{200};
const std::chrono::milliseconds kAtOnce = ample_time() / 6;  // where nobody waits for a deadline

class CudaFailures : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

class CudaSilentRank : public testing::TestWithParam<CudaSilence> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

TEST_P(CudaSilentRank, is_named_to_everybody_until_the_group_recovers) {
  run_cuda_threads(kNumRanks, [&](CudaSmallRank& rank) { rank_0_keeps_silent(rank, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(In, CudaSilentRank, testing::ValuesIn(cuda_silences()),
                         [](const auto& param_info) { return param_info.param.name; });

class CudaSilentRankByEngines : public testing::TestWithParam<CudaSilence> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(2); }
};

// Copies have been enqueued behind the wait that fails, or are never enqueued because the host learns of it where it waits for
// sizes, and has launched already what waits for them: streams go on all the same.
TEST_P(CudaSilentRankByEngines, is_named_to_everybody_until_the_group_recovers) {
  run_cuda_threads(2, [&](CudaSmallRank& rank) { rank_0_keeps_silent(rank, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(In, CudaSilentRankByEngines, testing::ValuesIn(cuda_silences_by_engines()),
                         [](const auto& param_info) { return param_info.param.name; });

class CudaDisagreeingRanks : public testing::TestWithParam<CudaDisagreement> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

TEST_P(CudaDisagreeingRanks, are_all_told_and_who_the_two_are) {
  run_cuda_threads(kNumRanks, [&](CudaSmallRank& rank) { rank_1_makes_another_call(rank, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(About, CudaDisagreeingRanks, testing::ValuesIn(cuda_disagreements()),
                         [](const auto& param_info) { return param_info.param.name; });

// The slots of a plan come to have had different numbers of turns.
TEST_F(CudaFailures, of_disagreeing_ranks_may_follow_each_other) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int round = 0; round < 2; ++round) {
      for (const CudaDisagreement& disagreement : cuda_disagreements()) {
        SCOPED_TRACE(disagreement.name);
        rank_1_makes_another_call(rank, disagreement);
      }
    }
  });
}

TEST_F(CudaFailures, a_bad_id_is_told_to_everybody_and_delivers_nothing) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    rank_1_gives_a_bad_id(rank, rank.plan, 2 * kNumRanks);
    rank_1_gives_a_bad_id(rank, rank.capacity_plan, 2 * kNumRanks);
    rank_1_gives_a_bad_id(rank, rank.capacity_plan, -2);
  });
}

TEST_F(CudaFailures, come_at_once_where_a_call_has_less_than_no_time) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (const Plan* plan : {&rank.plan, &rank.capacity_plan}) {
      rank.meet();
      if (rank.rank == 1) {
        const Deadline watch(1h);
        try {
          plan->dispatch(rank.dispatch(-1ms));
        } catch (const Error&) {
        }
        rank.finish();
        EXPECT_LT(watch.elapsed(), kAtOnce);
        EXPECT_TRUE(rank.group.status().has_value());
      }
      rank.recover_and_go_on();
    }
  });
}

TEST_F(CudaFailures, of_one_plan_end_waits_of_another) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    rank.meet();
    const Deadline watch(1h);
    if (rank.rank == 0) rank.capacity_plan.dispatch(rank.dispatch(kAmple));
    if (rank.rank == 1) {
      EXPECT_THROW(rank.plan.dispatch(rank.dispatch(kShort)), Error);
    }
    rank.finish();
    EXPECT_LT(watch.elapsed(), kShort + kAtOnce);
    if (rank.rank != 2) {
      ASSERT_TRUE(rank.group.status().has_value());
      EXPECT_EQ(rank.group.status()->reporter, 1);
    }
    rank.recover_and_go_on();
  });
}

TEST_F(CudaFailures, are_told_to_a_rank_that_comes_after_all_others_gave_up) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    if (rank.rank != 2) rank.capacity_plan.dispatch(rank.dispatch(kShort));
    rank.finish();
    rank.meet();
    const auto error = error_of([&] { rank.capacity_plan.dispatch(rank.dispatch(kAmple)); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->failure().culprit, 2) << error->what();
    EXPECT_THAT(error->what(), testing::HasSubstr("Group::recover() or a new group is needed"));
    rank.recover_and_go_on();
  });
}

TEST_F(CudaFailures, of_calls_that_were_enqueued_at_once_end_all_of_them) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    rank.meet();
    const Deadline watch(1h);
    if (rank.rank != 2) {
      for (int call = 0; call < 20 && !rank.group.status().has_value(); ++call) {
        const auto error = error_of([&] {
          const Received received = rank.capacity_plan.dispatch(rank.dispatch(kShort));
          const Routing routing = received.routing();
          CombineArgs args = rank.combine(routing, received.lane(0), kShort);
          rank.capacity_plan.combine(args);
        });
        if (error) {
          EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
        }
      }
    }
    rank.finish();
    EXPECT_LT(watch.elapsed(), kShort + kAtOnce) << "each of them waited for the deadline";
    rank.recover_and_go_on();
  });
}

// A call may be given up on the host while its kernels still wait, and the recovery must not come before they have ended.
TEST_F(CudaFailures, leave_no_kernel_behind_for_the_time_after_the_recovery) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int round = 0; round < 20; ++round) {
      rank.meet();
      DispatchArgs args = rank.dispatch(kAmple);
      if (rank.rank == 2) args.topk_idx = rank.ids_with(0, 99);
      const auto error = error_of([&] { rank.plan.dispatch(args); });
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->failure().culprit, 2) << error->what();
      rank.group.recover();
      rank.expect_sum_of(rank.plan);
      rank.expect_sum_of(rank.capacity_plan);
    }
    rank.meet();
    EXPECT_FALSE(rank.group.status().has_value());
  });
}

TEST_F(CudaFailures, are_recovered_from_as_often_as_they_come) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int round = 0; round < 5; ++round) {
      const int silent = round % kNumRanks;
      rank.meet();
      if (rank.rank != silent) rank.capacity_plan.dispatch(rank.dispatch(20ms));
      rank.finish();
      rank.meet();
      ASSERT_TRUE(rank.group.status().has_value());
      EXPECT_EQ(rank.group.status()->culprit, silent);
      rank.recover_and_go_on();
    }
  });
}

TEST_F(CudaFailures, in_slots_that_had_grown_or_were_about_to_grow_leave_them_working) {
  Shape shape = small_shape(kNumRanks);
  shape.recv_capacity = 1;  // every dispatch of the small layer needs more
  run_cuda_threads(
      kNumRanks,
      [](CudaSmallRank& rank) {
        for (int round = 0; round < 4; ++round) {
          // Rank 2 keeps silent before the growth in one round, and after it in the next.
          if (round % 2 == 1) rank.expect_sum_of(rank.plan);
          rank.meet();
          if (rank.rank != 2) {
            EXPECT_THROW(rank.plan.dispatch(rank.dispatch(20ms)), Error);
          }
          rank.recover_and_go_on();
        }
      },
      shape);
}

TEST_F(CudaFailures, name_a_rank_that_has_left_as_lost) {
  for (const bool sized : {true, false}) {
    const auto& gpus = gpu_ranks(kNumRanks);
    MeetingPoint meeting_point(kNumRanks);
    run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
      GpuRank& gpu = *gpus[exchange->rank()];
      gpu.select();
      std::optional<CudaSmallRank> rank(
          std::in_place, std::move(exchange), &gpu, [&] { meeting_point.meet(); }, small_shape(kNumRanks));
      rank->expect_sum_of(rank->plan);
      if (rank->rank == 0) {
        rank.reset();
        meeting_point.meet();
        return;
      }
      rank->meet();
      const auto error = error_of([&] { (sized ? rank->plan : rank->capacity_plan).dispatch(rank->dispatch(kShort)); });
      rank->finish();
      ASSERT_TRUE(rank->group.status().has_value());
      EXPECT_STREQ(to_string(rank->group.status()->code), to_string(ErrorCode::kPeerLost));
      EXPECT_EQ(rank->group.status()->culprit, 0);
      EXPECT_TRUE(error.has_value() || !sized);
      if (error) {
        EXPECT_EQ(error->code(), ErrorCode::kPeerLost) << error->what();
      }
    });
  }
}

// What is dropped while kernels wait must be there for them until they give up.
TEST_F(CudaFailures, of_plans_and_groups_that_are_dropped_meanwhile_leave_the_gpu_usable) {
  for (int round = 0; round < 3; ++round) {
    const auto& gpus = gpu_ranks(kNumRanks);
    MeetingPoint meeting_point(kNumRanks);
    run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
      GpuRank& gpu = *gpus[exchange->rank()];
      gpu.select();
      {
        GroupOptions options;
        options.device = gpu.device();
        options.num_sms = 4;
        const SmallInput input(exchange->rank(), kNumRanks, 0);
        std::byte* const memory = gpu.pinned().take(4096);
        std::memset(memory, 0, 4096);
        DispatchArgs args;
        const ConstTensorView lane{memory, DataType::kFloat32, {10, kHidden}};
        args.lanes = {&lane, 1};
        args.topk_idx = {memory + 2048, DataType::kInt32, {10, kTopK}};
        args.timeout = 500ms;
        args.execution.stream = gpu.stream();
        const bool is_silent = exchange->rank() == 0;
        std::optional<Group> group(Group::create(std::move(exchange), options));
        std::optional<Plan> plan(group->plan(capacity_shape(kNumRanks)));
        meeting_point.meet();
        std::optional<Received> received;
        if (!is_silent) received.emplace(plan->dispatch(args));
        if (round == 0) plan.reset();
        group.reset();
        plan.reset();
        received.reset();
        EXPECT_EQ(cudaStreamSynchronize(gpu.stream()), cudaSuccess);
        gpu.pinned().give_back(memory);
      }
      enqueue_delay(gpu.stream(), 10us);
      EXPECT_EQ(cudaStreamSynchronize(gpu.stream()), cudaSuccess);
      meeting_point.meet();
    });
  }
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) { rank.expect_sum_of(rank.plan); });
}

TEST_F(CudaFailures, end_replays_of_graphs_which_work_again_after_the_recovery) {
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    constexpr std::chrono::milliseconds kTimeout{500};
    const cudaStream_t stream = rank.gpu->stream();
    rank.expect_sum_of(rank.capacity_plan);
    cudaGraph_t captured = nullptr;
    cudaGraphExec_t graph = nullptr;
    Routing routing;
    // Tensors are prepared by copies, which a capture does not allow.
    const DispatchArgs dispatch = rank.dispatch(kTimeout);
    CombineArgs combine = rank.combine(routing, {}, kTimeout);
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    {
      const Received received = rank.capacity_plan.dispatch(dispatch);
      routing = received.routing();
      combine.rows = received.lane(0);
      rank.capacity_plan.combine(combine);
    }
    check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    check_cuda(cudaGraphInstantiate(&graph, captured, 0), "cudaGraphInstantiate");
    check_cuda(cudaGraphDestroy(captured), "cudaGraphDestroy");
    check_cuda(cudaGraphUpload(graph, stream), "cudaGraphUpload");
    rank.finish();
    rank.meet();
    for (int round = 0; round < 3; ++round) {
      const Deadline watch(1h);
      if (rank.rank != round) {
        for (int replay = 0; replay < 20; ++replay) check_cuda(cudaGraphLaunch(graph, stream), "cudaGraphLaunch");
      }
      rank.finish();
      EXPECT_LT(watch.elapsed(), kTimeout + kAtOnce) << "each replay waited for the deadline";
      rank.meet();
      ASSERT_TRUE(rank.group.status().has_value());
      EXPECT_EQ(rank.group.status()->culprit, round);
      rank.recover_and_go_on();
      for (int replay = 0; replay < 20; ++replay) check_cuda(cudaGraphLaunch(graph, stream), "cudaGraphLaunch");
      rank.finish();
      rank.expect_sum();
      EXPECT_FALSE(rank.group.status().has_value());
      rank.meet();
    }
    check_cuda(cudaGraphExecDestroy(graph), "cudaGraphExecDestroy");
  });
}

}  // namespace
}  // namespace tokenyard::test
