// The runtime's functions for devices and kernels.

#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/device_limits.hpp"
#include "tests/software_gpu/launch.hpp"

using namespace software_gpu;

namespace {

std::mutex limits_mutex;
std::map<const void*, std::size_t>& max_dynamic_bytes_of() {
  static auto* const all = new std::map<const void*, std::size_t>;
  return *all;
}

bool is_device(int device) { return device >= 0 && device < num_devices(); }

}  // namespace

std::size_t software_gpu::max_dynamic_bytes(const void* address) {
  constexpr std::size_t kWithoutAsking = 48 * 1024;
  const std::lock_guard lock(limits_mutex);
  const auto found = max_dynamic_bytes_of().find(address);
  return found == max_dynamic_bytes_of().end() ? kWithoutAsking : found->second;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = num_devices();
  return *count > 0 ? cudaSuccess : returned(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return returned(cudaErrorInvalidDevice);
  set_current_device(device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!is_device(device)) return returned(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrMultiProcessorCount: *value = kNumSms; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(kSharedBytesOfBlock); break;
    default: *value = 0; break;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!is_device(device)) return returned(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "software GPU");
  properties->uuid.bytes[0] = static_cast<char>(device + 1);
  properties->major = 9;
  properties->multiProcessorCount = kNumSms;
  properties->sharedMemPerBlockOptin = kSharedBytesOfBlock;
  properties->totalGlobalMem = kDeviceBytes;
  properties->warpSize = 32;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int, int) {
  *value = attribute == cudaDevP2PAttrPerformanceRank ? 0 : 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  static std::mutex mutex;
  static std::map<std::pair<int, int>, bool> enabled;
  const std::lock_guard lock(mutex);
  bool& is_enabled = enabled[{current_device(), peer}];
  if (is_enabled) return returned(cudaErrorPeerAccessAlreadyEnabled);
  is_enabled = true;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = kMaxThreadsOfBlock;
  attributes->binaryVersion = 90;
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* address, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<std::size_t>(value) > kSharedBytesOfBlock) return returned(cudaErrorInvalidValue);
  const std::lock_guard lock(limits_mutex);
  max_dynamic_bytes_of()[address] = static_cast<std::size_t>(value);
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the software GPU";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
