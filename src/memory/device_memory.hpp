// Memory of a GPU that other GPUs, and other processes, can load and store.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "memory/memory_handle.hpp"

namespace tokenyard {

class DeviceAllocation;

// Zero at first, aligned to 4096 bytes or more where it was allocated, mapped until the last shared_ptr is gone. The memory
// itself lives as long as any mapping of it, or handle, in any process; by CUDA IPC, no longer than its owner's process. Where
// handles are bytes, the owner keeps what peers still map until memory is next taken on any device. Letting go synchronises
// with nothing: the caller waits for the kernels that use it.
class DeviceMemory {
 public:
  // Memory of `device` that the kernels of `users` (and of `device`) can load and store, for this process alone or to be
  // exported by a handle of `kind`. Throws Error(kUnsupported) with the reason if a user cannot reach it, or the driver has no
  // such handles.
  static std::shared_ptr<DeviceMemory> allocate(std::size_t num_bytes, int device, std::span<const int> users,
                                                HandleKind kind = HandleKind::kNone);

  // Maps what another process has exported, for the kernels of `device`. num_bytes is what the owner allocated.
  static std::shared_ptr<DeviceMemory> import(const MemoryHandle& handle, std::size_t num_bytes, int device);

  // For another process, or for this one. It keeps the memory alive until it is closed.
  MemoryHandle export_handle() const;

  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* data() const noexcept;
  std::size_t num_bytes() const noexcept { return num_bytes_; }

 private:
  DeviceMemory(std::shared_ptr<DeviceAllocation> allocation, std::size_t num_bytes)
      : allocation_(std::move(allocation)), num_bytes_(num_bytes) {}

  std::shared_ptr<DeviceAllocation> allocation_;
  std::size_t num_bytes_;
};

}  // namespace tokenyard
