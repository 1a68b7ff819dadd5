// Kernels that do not wait for what they need: somewhere in a number of launches that must show.

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace tokenyard::test {
namespace {

constexpr int kNumLaunches = 200;
constexpr int kNumBytes = 64;

// Launches have succeeded this often.
template <class Kernel>
int num_right(Kernel launch) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 4096), cudaSuccess);
  int num_right = 0;
  for (int i = 0; i < kNumLaunches; ++i) {
    EXPECT_EQ(cudaMemset(memory, 0, 4096), cudaSuccess);
    int is_right = 0;
    auto* result = reinterpret_cast<int*>(static_cast<std::byte*>(memory) + 2048);
    launch(static_cast<std::byte*>(memory), result);
    EXPECT_EQ(cudaMemcpy(&is_right, result, sizeof(is_right), cudaMemcpyDeviceToHost), cudaSuccess);
    num_right += is_right;
  }
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  return num_right;
}

__global__ void store_in_bulk(std::byte* target, int* is_right, bool waits) {
  extern __shared__ __align__(128) std::byte shared[];
  shared[0] = std::byte{1};
  cuda::ptx::bulk_store(target, shared, kNumBytes);
  cuda::ptx::bulk_commit();
  if (waits) {
    cuda::ptx::bulk_wait_written<0>();
  } else {
    cuda::ptx::bulk_wait_read<0>();
  }
  *is_right = target[0] == std::byte{1} ? 1 : 0;
}

TEST(software_gpu, writes_late_what_is_stored_in_bulk) {
  const auto launches = [](bool waits) {
    return num_right([waits](std::byte* memory, int* result) { store_in_bulk<<<1, 1, kNumBytes>>>(memory, result, waits); });
  };
  EXPECT_EQ(launches(true), kNumLaunches);
  EXPECT_LT(launches(false), kNumLaunches);
}

__global__ void read_neighbour(int* is_right, bool meets) {
  extern __shared__ int numbers[];
  const auto lane = static_cast<int>(threadIdx.x);
  numbers[lane] = lane;
  if (meets) __syncwarp();
  const bool is_there = numbers[(lane + 1) % 32] == (lane + 1) % 32;
  const int are_all_there = __all_sync(0xffffffff, is_there);
  if (lane == 0) *is_right = are_all_there;
}

TEST(software_gpu, keeps_no_lanes_in_step) {
  const auto launches = [](bool meets) {
    return num_right([meets](std::byte*, int* result) { read_neighbour<<<1, 32, 32 * sizeof(int)>>>(result, meets); });
  };
  EXPECT_EQ(launches(true), kNumLaunches);
  EXPECT_LT(launches(false), kNumLaunches);
}

__global__ void come_first(std::uint32_t* num_come, int* is_first_block_first) {
  const std::uint32_t number = atomicAdd(num_come, 1U);
  if (blockIdx.x == 0) *is_first_block_first = number == 0 ? 1 : 0;
}

TEST(software_gpu, begins_blocks_in_any_order) {
  const int num_first =
      num_right([](std::byte* memory, int* result) { come_first<<<2, 1>>>(reinterpret_cast<std::uint32_t*>(memory), result); });
  EXPECT_GT(num_first, 0);
  EXPECT_LT(num_first, kNumLaunches);
}

__global__ void leave_early(std::byte* memory) {
  extern __shared__ __align__(128) std::byte shared[];
  cuda::ptx::async_load_row(shared, memory);
  cuda::ptx::async_commit();
}

__global__ void meet_apart() {
  if (threadIdx.x == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

TEST(software_gpu_death, comes_to_threads_that_wait_for_nobody_or_leave_early) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto finish = [] { cudaDeviceSynchronize(); };
  EXPECT_DEATH(
      {
        void* memory = nullptr;
        cudaMalloc(&memory, 64);
        leave_early<<<1, 1, 64>>>(static_cast<std::byte*>(memory));
        finish();
      },
      "a thread ends while something is being loaded to its shared memory");
  EXPECT_DEATH(
      {
        meet_apart<<<1, 32>>>();
        finish();
      },
      "all threads of a block wait for others that do not come");
}

}  // namespace
}  // namespace tokenyard::test
