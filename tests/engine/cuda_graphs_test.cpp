// Captured layers of ranks that are threads.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tokenyard::test::graphs
