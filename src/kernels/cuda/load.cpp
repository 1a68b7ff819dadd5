#include "kernels/cuda/load.hpp"

#include <vector>

#include "base/cuda_error.hpp"

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
  for (const void* kernel : all_kernels()) {
    cudaFuncAttributes attributes{};
    check_cuda(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  }
}

}  // namespace tokenyard::cuda
