// Regions of GPU memory, and host memory that GPUs reach. Without CUDA in the build all of it throws Error(kUnsupported).
#pragma once

#include <cstddef>
#include <memory>

#include "memory/memory_region.hpp"

namespace tokenyard {

// Memory of place.device for the kernels of place.users, zero at first and aligned to 4096 bytes or more. Letting go
// synchronises with nothing: wait for the kernels that use it before.
std::shared_ptr<MemoryRegion> make_device_region(std::size_t num_bytes, const MemoryPlace& place);

// The same with a handle of the kind place.handle, by which another process can map it.
std::shared_ptr<MemoryRegion> make_shareable_device_region(std::size_t num_bytes, const MemoryPlace& place);

// Maps another process's region for the kernels of place.device, on which it is said to be.
std::shared_ptr<MemoryRegion> map_device_region(const MemoryHandle& handle, std::size_t num_bytes, const MemoryPlace& place);

// Pins pages of host memory and lets the kernels of all GPUs of this process load and store them. Points to where they find
// them; ends with its last copy, which must go before the pages do. CUDA is started on `device` alone.
std::shared_ptr<std::byte> register_host_memory(std::byte* pages, std::size_t num_bytes, int device);

}  // namespace tokenyard
