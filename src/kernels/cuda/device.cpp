#include "kernels/cuda/device.hpp"

#include <map>
#include <mutex>

#include "base/cuda_error.hpp"

namespace tokenyard::cuda {
namespace {

Device describe(int device) {
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

}  // namespace

Device current_device() {
  static std::mutex mutex;
  static std::map<int, Device> known;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  const auto found = known.find(device);
  return found != known.end() ? found->second : known.emplace(device, describe(device)).first->second;
}

}  // namespace tokenyard::cuda
