#include "kernels/cuda/load.hpp"

#include <vector>

#include "base/cuda_error.hpp"
#include "kernels/cuda/device.hpp"

namespace tokenyard::cuda {
namespace {

std::vector<const void*>& all_kernels() {
  static std::vector<const void*> kernels;
  return kernels;
}

}  // namespace

RegisteredKernels::RegisteredKernels(std::initializer_list<const void*> kernels) {
  all_kernels().insert(all_kernels().end(), kernels);
}

void load_kernels() {
  const int max_shared_bytes = current_device().max_shared_bytes;
  for (const void* kernel : all_kernels()) {
    cudaFuncAttributes attributes{};
    check_cuda(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
    const int shared_bytes = max_shared_bytes - static_cast<int>(attributes.sharedSizeBytes);
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), "cudaFuncSetAttribute");
  }
}

}  // namespace tokenyard::cuda
