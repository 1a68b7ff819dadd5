#include "kernels/cuda/device.hpp"

#include "base/cuda_error.hpp"

namespace tokenyard::cuda {

Device current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  const auto attribute = [device](cudaDeviceAttr name) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
    return value;
  };
  return {.has_bulk_copies = attribute(cudaDevAttrComputeCapabilityMajor) >= 9,
          .num_sms = attribute(cudaDevAttrMultiProcessorCount),
          .max_shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
          .reaches_pageable_memory = attribute(cudaDevAttrPageableMemoryAccess) != 0};
}

}  // namespace tokenyard::cuda
