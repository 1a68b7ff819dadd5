#include "kernels/cuda/delays.hpp"

#include <vector>

#include "base/cuda_error.hpp"

namespace tokenyard::cuda {
namespace {

std::vector<const void*>& all_seeds() {
  static std::vector<const void*> seeds;
  return seeds;
}

}  // namespace

RegisteredDelays::RegisteredDelays(const std::uint64_t& seed) { all_seeds().push_back(&seed); }

void set_kernel_delays(std::uint64_t seed) {
  for (const void* symbol : all_seeds()) {
    check_cuda(cudaMemcpyToSymbol(symbol, &seed, sizeof(seed)), "cudaMemcpyToSymbol");
  }
}

}  // namespace tokenyard::cuda
