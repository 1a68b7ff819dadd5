#include "cli/gpu_memory.hpp"

#include <algorithm>

#include "base/cuda_error.hpp"

namespace tokenyard::cli {

GpuMemory::GpuMemory(std::size_t num_bytes) : num_bytes_(num_bytes) {
  void* data = nullptr;
  check_cuda(cudaMalloc(&data, std::max<std::size_t>(num_bytes, 1)), "cudaMalloc");
  data_ = std::shared_ptr<std::byte>(static_cast<std::byte*>(data), [](std::byte* memory) { cudaFree(memory); });
}

void copy_to_gpu(std::byte* to, const void* from, std::size_t num_bytes, Stream stream) {
  if (num_bytes > 0) check_cuda(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

std::vector<std::byte> copy_from_gpu(const void* from, std::size_t num_bytes, Stream stream) {
  std::vector<std::byte> bytes(num_bytes);
  if (num_bytes > 0) {
    check_cuda(cudaMemcpyAsync(bytes.data(), from, num_bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
  }
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return bytes;
}

}  // namespace tokenyard::cli
