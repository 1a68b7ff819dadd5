// Bytes that ranks can share: pages of this process for ranks that are threads, a sealed memfd for ranks that are processes, or
// memory of a GPU (device_region.hpp).
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/file_descriptor.hpp"
#include "memory/memory_handle.hpp"

namespace tokenyard {

// Where memory lies and who accesses it.
struct MemoryPlace {
  int device = -1;                        // a GPU that this process sees, or -1: host memory
  std::vector<int> users{};               // GPUs of this process whose kernels load and store it
  HandleKind handle = HandleKind::kNone;  // by which memory of the device is passed to other processes

  bool on_device() const noexcept { return device >= 0; }
};

// Page-aligned, zero at first, mapped until the last shared_ptr is gone. Pages are taken from the system when they are first
// touched, so an untouched worst case costs address space only.
class MemoryRegion {
 public:
  static std::shared_ptr<MemoryRegion> anonymous(std::size_t num_bytes);

  // A memfd sealed against growing and shrinking, so that a peer that maps it can never be hit by a fault.
  static std::shared_ptr<MemoryRegion> shareable(std::size_t num_bytes);

  // Maps a peer's memfd. Throws Error(kDisagreement) if it is not sealed or has another size.
  static std::shared_ptr<MemoryRegion> map(FileDescriptor fd, std::size_t num_bytes);

  // Memory that lives elsewhere as long as `owner` does.
  static std::shared_ptr<MemoryRegion> owned(std::shared_ptr<void> owner, std::byte* data, std::size_t num_bytes,
                                             MemoryPlace place, MemoryHandle handle);

  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  std::byte* data() const noexcept { return data_; }  // the host reads and writes it unless it lies on a device
  std::size_t num_bytes() const noexcept { return num_bytes_; }
  // By which others may map it: of kind kNone unless this process made it shareable.
  const MemoryHandle& handle() const noexcept { return handle_; }
  int fd() const noexcept { return descriptor_of(handle_); }  // -1: the handle has none
  const MemoryPlace& place() const noexcept { return place_; }
  int device() const noexcept { return place_.device; }  // -1: host memory

  // Where kernels find it. Host memory is made known to all GPUs of this process when it is first asked for, by whichever
  // thread and for whichever `device`; Error(kUnsupported) without CUDA in the build.
  std::byte* device_data(int device);

 private:
  MemoryRegion(MemoryHandle handle, std::byte* data, std::size_t num_bytes)
      : handle_(std::move(handle)), data_(data), num_bytes_(num_bytes) {}

  MemoryHandle handle_;
  std::byte* data_;
  std::size_t num_bytes_;
  MemoryPlace place_{};
  std::shared_ptr<void> owner_{};  // none: the region's own mapping
  std::mutex registration_mutex_{};
  std::shared_ptr<std::byte> registration_{};
};

}  // namespace tokenyard
