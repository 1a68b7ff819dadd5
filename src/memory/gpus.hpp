// The GPUs that this process sees, and which of them reach each other. Without CUDA in the build all of it throws.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace tokenyard {

// Identifies a GPU across processes and containers.
using GpuId = std::array<std::uint8_t, 16>;

struct GpuDescription {
  GpuId id{};
  int num_sms = 0;
};

// Whether kernels of one GPU can load and store another's memory.
struct PeerAccess {
  bool is_possible = false;
  bool has_atomics = false;  // atomic operations of the two GPUs on one word exclude each other
  std::string reason{};      // why it is not possible
};

// Throw Error(kUnsupported) where there is no driver or no CUDA in the build, Error(kInvalidArgument) for a device that does
// not exist.
int num_devices();
void check_device(int device);
GpuDescription describe_gpu(int device);
PeerAccess peer_access(int device, int owner);

// The number by which this process knows the GPU, or -1 if it does not see it.
int find_device(const GpuId& id);

}  // namespace tokenyard
