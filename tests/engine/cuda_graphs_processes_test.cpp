// Captured layers of ranks that are processes, each with a GPU of its own: on one that they share they would run in turns.
#include <gtest/gtest.h>

#include "tests/engine/graph_stories.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test::graphs {
namespace {

constexpr int kNumRanks = 2;

template <class Body>
void run_processes_on_gpus(Body body) {
  const auto results = run_process_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank gpu(exchange->rank());
    gpu.delay_kernels(41);
    GroupOptions options = patient();
    options.device = gpu.device();
    const Group group = Group::create(std::move(exchange), options);
    body(group, &gpu);
    EXPECT_FALSE(group.status().has_value());
    group.barrier();
  });
  for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0) << "signal " << result.signal;
}

class CudaGraphsOfProcesses : public testing::TestWithParam<Layer> {};

TEST_P(CudaGraphsOfProcesses, replays_deliver_what_their_inputs_say) {
  SKIP_WITHOUT_GPUS_APART(kNumRanks);
  const Inputs inputs(GetParam(), kNumRanks);
  run_processes_on_gpus([&](const Group& group, GpuRank* gpu) {
    replay(group, GetParam(), inputs, gpu);
    replay_and_call(group, GetParam(), inputs, gpu);
  });
}

INSTANTIATE_TEST_SUITE_P(
    Of, CudaGraphsOfProcesses,
    testing::Values(
        kCompact, Layer{.name = "compact_in_place", .layout = Layout::kCompact, .outputs = Outputs::kOverRows},
        Layer{.name = "contiguous_in_borrowed_buffer", .layout = Layout::kExpertContiguous, .outputs = Outputs::kBorrowed},
        Layer{.name = "contiguous_that_drops", .layout = Layout::kExpertContiguous, .recv_capacity = 20}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(cuda_graphs_of_processes, of_two_plans_interleave_on_two_streams) {
  SKIP_WITHOUT_GPUS_APART(kNumRanks);
  const Inputs compact(kCompact, kNumRanks);
  const Inputs contiguous(kContiguous, kNumRanks);
  run_processes_on_gpus([&](const Group& group, GpuRank* gpu) { replay_two_plans(group, compact, contiguous, gpu); });
}

}  // namespace
}  // namespace tokenyard::test::graphs
