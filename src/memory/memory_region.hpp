// Bytes that ranks can share: pages of this process for ranks that are threads, a sealed memfd for ranks that are processes.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/file_descriptor.hpp"

namespace tokenyard {

// Where memory lies and who accesses it.
struct MemoryPlace {
  int device = -1;           // a GPU that this process sees, or -1: host memory
  std::vector<int> users{};  // GPUs whose kernels load and store it

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

  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t num_bytes() const noexcept { return num_bytes_; }
  int fd() const noexcept { return fd_.get(); }  // -1 unless this process made it shareable

 private:
  MemoryRegion(FileDescriptor fd, std::byte* data, std::size_t num_bytes)
      : fd_(std::move(fd)), data_(data), num_bytes_(num_bytes) {}

  FileDescriptor fd_;
  std::byte* data_;
  std::size_t num_bytes_;
};

}  // namespace tokenyard
