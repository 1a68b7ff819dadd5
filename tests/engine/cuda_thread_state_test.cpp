// What calls on GPUs leave behind in the thread that makes them: nothing.
#include <gtest/gtest.h>

#include "base/cuda_error.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/engine/cuda_small_rank.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;

class CudaThreadState : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

// An error that is left behind would be taken for one of the caller's next launch.
void expect_as_before(int device) {
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << cudaGetErrorName(cudaGetLastError());
  int current = -1;
  check_cuda(cudaGetDevice(&current), "cudaGetDevice");
  EXPECT_EQ(current, device);
}

TEST_F(CudaThreadState, is_as_before_when_calls_have_returned_and_all_has_been_dropped) {
  const auto& gpus = gpu_ranks(kNumRanks);
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank& gpu = *gpus[exchange->rank()];
    gpu.select();
    Routing routing;
    {
      std::optional<CudaSmallRank> rank(std::in_place, std::move(exchange), &gpu, [] {}, small_shape(kNumRanks));
      expect_as_before(gpu.device());
      rank->expect_sum_of(rank->plan);
      rank->expect_sum_of(rank->capacity_plan);
      expect_as_before(gpu.device());
      routing = rank->plan.dispatch(rank->dispatch(kAmple)).routing();
      EXPECT_GT(routing.num_recv_rows(), 0);
      EXPECT_EQ(routing.num_dropped(), 0);
      rank->finish();
      expect_as_before(gpu.device());
      {
        const Window window = rank->group.window(64);
        window.signal(rank->rank, 0, 1);
      }
      expect_as_before(gpu.device());
      rank->group.barrier();
      rank.reset();
    }
    expect_as_before(gpu.device());
    routing = {};
    expect_as_before(gpu.device());
  });
}

// A thread's current device may be another rank's.
TEST_F(CudaThreadState, may_be_that_of_another_gpu) {
  SKIP_WITHOUT_GPUS(2);
  const auto& gpus = gpu_ranks(kNumRanks);
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank& gpu = *gpus[exchange->rank()];
    gpu.select();
    const int other = gpus[1 - exchange->rank()]->device();
    std::optional<CudaSmallRank> rank(std::in_place, std::move(exchange), &gpu, [] {}, small_shape(kNumRanks));
    check_cuda(cudaSetDevice(other), "cudaSetDevice");
    for (int round = 0; round < 3; ++round) {
      rank->expect_sum_of(rank->plan);
      rank->expect_sum_of(rank->capacity_plan);
      expect_as_before(other);
    }
    rank->group.barrier();
    rank.reset();
    expect_as_before(other);
  });
}

TEST_F(CudaThreadState, has_no_error_left_that_has_been_thrown) {
  expect_error([] { check_cuda(cudaSetDevice(1'000), "cudaSetDevice"); }, ErrorCode::kSystem, "cudaSetDevice failed");
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

}  // namespace
}  // namespace tokenyard::test
