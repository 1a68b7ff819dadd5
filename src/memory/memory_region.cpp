#include "memory/memory_region.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "memory/device_region.hpp"

namespace tokenyard {
namespace {

// A mapping must not be empty, and an empty region is a valid one.
std::size_t mapped_bytes(std::size_t num_bytes) { return std::max<std::size_t>(num_bytes, 1); }

[[noreturn]] void fail_for_want_of_memory(std::size_t num_bytes) {
  fail(ErrorCode::kSystem,
       "cannot map {} bytes of memory: the address space or a limit (ulimit -v, cgroup, vm.overcommit_memory=2) is too small",
       num_bytes);
}

std::byte* map_pages(std::size_t num_bytes, int flags, int fd) {
  void* pages = mmap(nullptr, mapped_bytes(num_bytes), PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
  if (pages == MAP_FAILED) fail_for_want_of_memory(num_bytes);
  return static_cast<std::byte*>(pages);
}

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

}  // namespace

std::shared_ptr<MemoryRegion> MemoryRegion::anonymous(std::size_t num_bytes) {
  std::byte* data = map_pages(num_bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  return std::shared_ptr<MemoryRegion>(new MemoryRegion(FileDescriptor(), data, num_bytes));
}

std::shared_ptr<MemoryRegion> MemoryRegion::shareable(std::size_t num_bytes) {
  FileDescriptor fd(memfd_create("tokenyard", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) fail_system("memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(mapped_bytes(num_bytes))) != 0) fail_for_want_of_memory(num_bytes);
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) fail_system("sealing a memfd");
  std::byte* data = map_pages(num_bytes, MAP_SHARED, fd.get());
  return std::shared_ptr<MemoryRegion>(new MemoryRegion(std::move(fd), data, num_bytes));
}

std::shared_ptr<MemoryRegion> MemoryRegion::map(FileDescriptor fd, std::size_t num_bytes) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    fail(ErrorCode::kDisagreement, "a peer passed memory that is not sealed: it does not run this version of the library");
  }
  struct stat status{};
  if (fstat(fd.get(), &status) != 0) fail_system("fstat of a memfd");
  if (static_cast<std::size_t>(status.st_size) != mapped_bytes(num_bytes)) {
    fail(ErrorCode::kDisagreement, "a peer passed {} bytes of memory where {} were expected", status.st_size, num_bytes);
  }
  std::byte* data = map_pages(num_bytes, MAP_SHARED, fd.get());
  return std::shared_ptr<MemoryRegion>(new MemoryRegion(FileDescriptor(), data, num_bytes));  // the mapping outlives the fd
}

std::shared_ptr<MemoryRegion> MemoryRegion::owned(std::shared_ptr<void> owner, std::byte* data, std::size_t num_bytes,
                                                  MemoryPlace place, MemoryHandle handle) {
  std::shared_ptr<MemoryRegion> region(new MemoryRegion(std::move(handle), data, num_bytes));
  region->owner_ = std::move(owner);
  region->place_ = std::move(place);
  return region;
}

std::byte* MemoryRegion::device_data(int device) {
  if (place_.on_device()) return data_;
  const std::lock_guard lock(registration_mutex_);
  if (registration_ == nullptr) registration_ = register_host_memory(data_, mapped_bytes(num_bytes_), device);
  return registration_.get();
}

MemoryRegion::~MemoryRegion() {
  registration_.reset();
  handle_ = FileDescriptor();  // before its owner, who would think that a peer has it
  if (owner_ == nullptr) munmap(data_, mapped_bytes(num_bytes_));
}

}  // namespace tokenyard
