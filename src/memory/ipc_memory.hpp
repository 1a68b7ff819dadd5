// Memory of a GPU as cudaMalloc makes it: for drivers without CUDA's virtual memory, and for CUDA IPC.
//
// CUDA leaves undefined what happens to mappings in other processes when the owner frees the memory. So every handle holds a
// lease, and the owner keeps the memory until all of them are closed (device_memory.cpp); a mapping closes its own when CUDA no
// longer has it open. What a lease cannot do is keep the owner's process: the memory ends with it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "memory/device_allocation.hpp"

namespace tokenyard {

// Memory of `device` for the kernels of `users` and of `device`, aligned to 4096 bytes or more.
std::shared_ptr<DeviceAllocation> make_ipc_memory(std::size_t num_bytes, int device, std::span<const int> users);

// Maps what another process exported, for the kernels of `device`. CUDA does not open handles in the process that made them:
// there it is the exported allocation itself.
std::shared_ptr<DeviceAllocation> map_ipc_memory(const IpcHandle& handle, int device);

}  // namespace tokenyard
