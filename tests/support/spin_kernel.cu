#include "tests/support/spin_kernel.hpp"

#include "base/cuda_error.hpp"
#include "kernels/cuda/ptx.cuh"

namespace tokenyard::test {
namespace {

__global__ void spin(std::uint64_t nanoseconds) {
  const std::uint64_t end = cuda::ptx::global_nanoseconds() + nanoseconds;
  while (cuda::ptx::global_nanoseconds() < end) {
  }
}

}  // namespace

void enqueue_delay(Stream stream, std::chrono::nanoseconds delay) {
  spin<<<1, 1, 0, stream>>>(static_cast<std::uint64_t>(delay.count()));
  check_cuda(cudaGetLastError(), "the launch of a delay");
}

}  // namespace tokenyard::test
