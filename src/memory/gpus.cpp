#include "memory/gpus.hpp"

#include <cstring>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"

namespace tokenyard {

int num_devices() {
  int num_devices = 0;
  check_cuda(cudaGetDeviceCount(&num_devices), "cudaGetDeviceCount");
  return num_devices;
}

void check_device(int device) {
  const int limit = num_devices();
  if (device < 0 || device >= limit) {
    fail_argument("device {} does not exist: this process sees {} (CUDA_VISIBLE_DEVICES may hide more)", device, limit);
  }
}

GpuDescription describe_gpu(int device) {
  check_device(device);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  GpuDescription gpu{.num_sms = properties.multiProcessorCount};
  static_assert(sizeof(gpu.id) == sizeof(properties.uuid));
  std::memcpy(gpu.id.data(), &properties.uuid, sizeof(gpu.id));
  return gpu;
}

int find_device(const GpuId& id) {
  for (int device = num_devices() - 1; device >= 0; --device) {
    if (describe_gpu(device).id == id) return device;
  }
  return -1;
}

PeerAccess peer_access(int device, int owner) {
  check_device(device);
  check_device(owner);
  if (device == owner) return {.is_possible = true, .has_atomics = true};
  const auto attribute = [&](cudaDeviceP2PAttr name) {
    int value = 0;
    check_cuda(cudaDeviceGetP2PAttribute(&value, name, device, owner), "cudaDeviceGetP2PAttribute");
    return value != 0;
  };
  PeerAccess access;
  access.is_possible = attribute(cudaDevP2PAttrAccessSupported);
  access.has_atomics = attribute(cudaDevP2PAttrNativeAtomicSupported);
  if (!access.is_possible) {
    access.reason = fmt::format(
        "GPU {} cannot reach the memory of GPU {}: nvidia-smi topo -p2p r shows why (no NVLink, PCIe peer traffic turned off "
        "by the platform or an IOMMU, or GPUs of different kinds)",
        device, owner);
  }
  return access;
}

}  // namespace tokenyard
