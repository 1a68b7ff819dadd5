// Captured layers of ranks that are threads.
#include <gtest/gtest.h>

#include <set>

#include "tests/engine/cuda_small_rank.hpp"
#include "tests/engine/graph_stories.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test::graphs {
namespace {

constexpr int kNumRanks = 4;
constexpr int kNumSms = 8;  // 4 ranks with two streams each fit on one GPU

// Runs body(rank's group, its GPU) with ranks as threads, whose kernels dawdle.
template <class Body>
void run_ranks_on_gpus(Body body) {
  const auto& gpus = gpu_ranks(kNumRanks);
  for (const auto& gpu : gpus) gpu->delay_kernels(37);
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank& gpu = *gpus[exchange->rank()];
    gpu.select();
    GroupOptions options = patient();
    options.device = gpu.device();
    options.num_sms = kNumSms;
    const Group group = Group::create(std::move(exchange), options);
    body(group, &gpu);
    EXPECT_FALSE(group.status().has_value());
  });
  for (const auto& gpu : gpus) gpu->delay_kernels(0);
}

class CudaGraphs : public testing::TestWithParam<Layer> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

TEST_P(CudaGraphs, replays_deliver_what_their_inputs_say) {
  const Inputs inputs(GetParam(), kNumRanks);
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu) { replay(group, GetParam(), inputs, gpu); });
}

TEST_P(CudaGraphs, replays_take_turns_with_calls_that_are_not_captured) {
  const Inputs inputs(GetParam(), kNumRanks);
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu) { replay_and_call(group, GetParam(), inputs, gpu); });
}

INSTANTIATE_TEST_SUITE_P(
    Of, CudaGraphs,
    testing::Values(
        kCompact, Layer{.name = "compact_in_place", .layout = Layout::kCompact, .outputs = Outputs::kOverRows},
        Layer{.name = "compact_that_drops", .layout = Layout::kCompact, .recv_capacity = 20},
        Layer{.name = "compact_into_given_tensors", .layout = Layout::kCompact, .into_given_tensors = true}, kContiguous,
        Layer{.name = "contiguous_in_borrowed_buffer", .layout = Layout::kExpertContiguous, .outputs = Outputs::kBorrowed},
        Layer{.name = "contiguous_that_drops", .layout = Layout::kExpertContiguous, .recv_capacity = 20}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(cuda_graphs, of_two_plans_interleave_on_two_streams) {
  SKIP_WITHOUT_GPUS(1);
  const Inputs compact(kCompact, kNumRanks);
  const Inputs contiguous(kContiguous, kNumRanks);
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu) { replay_two_plans(group, compact, contiguous, gpu); });
}

// More dispatches than a plan holds Routings ready for.
TEST(cuda_graphs, whose_routings_have_gone_share_their_memory_among_themselves_alone) {
  SKIP_WITHOUT_GPUS(1);
  run_cuda_threads(2, [](CudaSmallRank& rank) {
    const auto dispatch = [&] { return rank.capacity_plan.dispatch(rank.dispatch(kAmple)).routing(); };
    rank.expect_sum_of(rank.capacity_plan);
    std::set<const void*> of_captures;
    rank.capture([&] {
      for (int i = 0; i < 9; ++i) of_captures.insert(dispatch().source_token().data);
    });
    EXPECT_EQ(of_captures.size(), 1);
    std::vector<Routing> live;
    for (int i = 0; i < 6; ++i) {
      live.push_back(dispatch());
      EXPECT_FALSE(of_captures.contains(live.back().source_token().data));
    }
    const Routing& given = live.front();
    rank.capture([&] {
      EXPECT_TRUE(of_captures.contains(dispatch().source_token().data));
      rank.capacity_plan.dispatch(rank.cached(given, kAmple));
    });
    const void* const of_given = given.source_token().data;
    live.clear();
    for (int i = 0; i < 9; ++i) {
      live.push_back(dispatch());
      EXPECT_NE(live.back().source_token().data, of_given) << "which a captured call reads";
    }
    rank.finish();
    EXPECT_FALSE(rank.group.status().has_value());
    rank.expect_sum_of(rank.capacity_plan);
  });
}

}  // namespace
}  // namespace tokenyard::test::graphs
