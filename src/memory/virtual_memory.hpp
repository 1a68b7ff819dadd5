// Memory of a GPU by CUDA's virtual memory management: it lives as long as any mapping of it in any process.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "memory/device_allocation.hpp"

namespace tokenyard {

bool has_virtual_memory(int device);

// Memory of `device` for the kernels of `users` and of `device`. `kind` is kNone, kDescriptor or kFabric.
std::shared_ptr<DeviceAllocation> make_virtual_memory(std::size_t num_bytes, int device, std::span<const int> users,
                                                      HandleKind kind);

// Maps what another process exported, for the kernels of `device`. `handle` is a descriptor or a FabricHandle.
std::shared_ptr<DeviceAllocation> map_virtual_memory(const MemoryHandle& handle, std::size_t num_bytes, int device);

// Makes and exports a little memory. What the driver says where it refuses that; empty: it does not, or has no memory left to
// try it with.
std::string find_refusal(int device, HandleKind kind);

}  // namespace tokenyard
