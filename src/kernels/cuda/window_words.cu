#include "kernels/cuda/window_words.hpp"

#include "base/cuda_error.hpp"
#include "tokenyard/device.cuh"

namespace tokenyard::cuda {
namespace {

__global__ void store_kernel(std::uint64_t* word, std::uint64_t value) {
  if (threadIdx.x == 0) device::ptx::store_release_system(word, value);
}

__global__ void add_kernel(std::uint64_t* word, std::uint64_t value, std::uint64_t* old) {
  if (threadIdx.x == 0) *old = device::ptx::add_system(word, value);
}

__global__ void await_kernel(DeviceWindow window, std::size_t offset, Compare compare, std::uint64_t value,
                             std::uint64_t timeout_nanoseconds) {
  device::wait<device::Team::kWarp>(window, offset, compare, value, timeout_nanoseconds);
}

// What went wrong before would be taken for a failed launch. The device's own failures come again.
void forget_earlier_errors() { cudaGetLastError(); }

}  // namespace

void load_window_kernels() {
  cudaFuncAttributes attributes{};
  for (const void* kernel : {reinterpret_cast<const void*>(store_kernel), reinterpret_cast<const void*>(add_kernel),
                             reinterpret_cast<const void*>(await_kernel)}) {
    check_cuda(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  }
}

void store_word(std::uint64_t* word, std::uint64_t value, Stream stream) {
  forget_earlier_errors();
  store_kernel<<<1, 32, 0, stream>>>(word, value);
  check_cuda(cudaGetLastError(), "store_word");
}

void add_to_word(std::uint64_t* word, std::uint64_t value, std::uint64_t* old, Stream stream) {
  forget_earlier_errors();
  add_kernel<<<1, 32, 0, stream>>>(word, value, old);
  check_cuda(cudaGetLastError(), "add_to_word");
}

void await_word(const DeviceWindow& window, std::size_t offset, Compare compare, std::uint64_t value,
                std::uint64_t timeout_nanoseconds, Stream stream) {
  forget_earlier_errors();
  await_kernel<<<1, 32, 0, stream>>>(window, offset, compare, value, timeout_nanoseconds);
  check_cuda(cudaGetLastError(), "await_word");
}

}  // namespace tokenyard::cuda
