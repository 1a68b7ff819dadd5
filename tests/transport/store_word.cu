#include "tests/transport/store_word.hpp"

#include "base/cuda_error.hpp"

namespace tokenyard::test {
namespace {

__global__ void store_word_kernel(std::uint64_t* address, std::uint64_t value) { *address = value; }

}  // namespace

void store_word_by_kernel(std::uint64_t* address, std::uint64_t value) {
  store_word_kernel<<<1, 1>>>(address, value);
  check_cuda(cudaGetLastError(), "store_word_kernel");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

}  // namespace tokenyard::test
