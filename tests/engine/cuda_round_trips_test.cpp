// The round trips of the small layer with ranks on GPUs.
#include <gtest/gtest.h>

#include "tests/engine/round_trip.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRounds = 20;

class CudaRoundTrips : public testing::TestWithParam<int> {};

TEST_P(CudaRoundTrips, return_every_row) {
  SKIP_WITHOUT_GPUS(1);
  const int num_ranks = GetParam();
  const auto& gpus = gpu_ranks(num_ranks);
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    GpuResidence residence(gpus[rank].get(), {.seed = 11, .rank = rank, .num_ranks = num_ranks, .shake = true});
    residence.enter();
    GroupOptions options = patient();
    residence.choose(&options);
    const Group group = Group::create(std::move(exchange), options);
    const Plan plan = group.plan(small_shape(num_ranks));
    for (int round = 0; round < kNumRounds && !testing::Test::HasFailure(); ++round) {
      expect_round_trip(plan, rank, num_ranks, round, &residence);
    }
    EXPECT_FALSE(group.status().has_value());
  });
}

INSTANTIATE_TEST_SUITE_P(Of, CudaRoundTrips, testing::Values(1, 2, 3, 8),
                         [](const auto& param_info) { return std::to_string(param_info.param) + "_ranks"; });

}  // namespace
}  // namespace tokenyard::test
