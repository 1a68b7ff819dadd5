// Memory of a GPU that other GPUs, and other processes, can load and store.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <variant>

#include "base/file_descriptor.hpp"

namespace tokenyard {

// What another process needs to map the memory: a file descriptor between processes of one host. Handles that reach other
// hosts will be further alternatives.
using DeviceMemoryHandle = std::variant<FileDescriptor>;

// Zero at first, aligned to 2 MiB or more, mapped until the last shared_ptr is gone; the memory itself lives as long as any
// mapping of it in any process. Letting go synchronises with nothing: the caller waits for the kernels that use it.
class DeviceMemory {
 public:
  // Memory of `device` that the kernels of `users` (and of `device`) can load and store. Throws Error(kUnsupported) with the
  // reason if a user cannot reach it.
  static std::shared_ptr<DeviceMemory> allocate(std::size_t num_bytes, int device, std::span<const int> users);

  // Maps what another process has exported, for the kernels of `users`. num_bytes is what the owner allocated.
  static std::shared_ptr<DeviceMemory> import(const DeviceMemoryHandle& handle, std::size_t num_bytes,
                                              std::span<const int> users);

  // For another process. Every call makes a new one; it keeps the memory alive until it is closed.
  DeviceMemoryHandle export_handle() const;

  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t num_bytes() const noexcept { return num_bytes_; }

 private:
  DeviceMemory() = default;
  void map(std::size_t granularity, std::span<const int> users);

  std::byte* data_ = nullptr;
  std::size_t num_bytes_ = 0;
  std::size_t mapped_bytes_ = 0;
  unsigned long long allocation_ = 0;  // the driver's handle, 0: none
  bool is_mapped_ = false;
  bool can_be_exported_ = false;
};

}  // namespace tokenyard
