// One way of having memory of a GPU in this process: CUDA's virtual memory (virtual_memory.hpp), or memory that CUDA IPC shares
// (ipc_memory.hpp).
#pragma once

#include <cstddef>

#include "memory/lease.hpp"
#include "memory/memory_handle.hpp"

namespace tokenyard {

class DeviceAllocation {
 public:
  virtual ~DeviceAllocation() = default;
  DeviceAllocation(const DeviceAllocation&) = delete;
  DeviceAllocation& operator=(const DeviceAllocation&) = delete;

  std::byte* data() const noexcept { return data_; }

  // Throws Error(kUnsupported) for memory that cannot be passed on.
  virtual MemoryHandle export_handle() = 0;

  // Whether others hold what they need this allocation to stay for.
  bool is_held() { return lease_.is_held(); }

 protected:
  DeviceAllocation() = default;

  std::byte* data_ = nullptr;
  Lease lease_{};
};

}  // namespace tokenyard
