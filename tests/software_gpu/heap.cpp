#include "tests/software_gpu/heap.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "tests/software_gpu/address_sanitizer.hpp"

namespace software_gpu {
namespace {

constexpr std::size_t kPageBytes = 4096;

}  // namespace

std::byte* Heap::allocate(std::size_t num_bytes) {
  if (base_ == nullptr) open();
  // A page stays free behind each piece, for sanitizers to see who goes beyond.
  const std::size_t taken_bytes = (num_bytes + kPageBytes - 1) / kPageBytes * kPageBytes + kPageBytes;
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < taken_bytes) continue;
    const std::size_t offset = hole->first;
    const std::size_t rest = hole->second - taken_bytes;
    holes_.erase(hole);
    if (rest > 0) holes_[offset + taken_bytes] = rest;
    pieces_[offset] = {taken_bytes, num_bytes};
    ASAN_POISON_MEMORY_REGION(base_ + offset, taken_bytes);
    ASAN_UNPOISON_MEMORY_REGION(base_ + offset, num_bytes);
    return base_ + offset;
  }
  return nullptr;
}

std::size_t Heap::free(std::byte* address) {
  const std::size_t offset = offset_of(address);
  const auto found = pieces_.find(offset);
  if (found == pieces_.end()) return 0;
  const Piece piece = found->second;
  pieces_.erase(found);
  fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(piece.taken_bytes));
  ASAN_POISON_MEMORY_REGION(base_ + offset, piece.taken_bytes);
  auto hole = holes_.emplace(offset, piece.taken_bytes).first;
  if (const auto next = std::next(hole); next != holes_.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    holes_.erase(next);
  }
  if (hole == holes_.begin()) return piece.num_bytes;
  const auto before = std::prev(hole);
  if (before->first + before->second == hole->first) {
    before->second += hole->second;
    holes_.erase(hole);
  }
  return piece.num_bytes;
}

std::size_t Heap::mapped_bytes(std::size_t offset) const {
  const auto found = pieces_.find(offset);
  return found == pieces_.end() ? 0 : found->second.taken_bytes - kPageBytes;
}

void Heap::open() {
  constexpr std::size_t kBytes = std::size_t{1} << 40;
  fd_ = memfd_create("software-gpu", MFD_CLOEXEC);
  void* base = MAP_FAILED;
  if (fd_ >= 0 && ftruncate(fd_, kBytes) == 0) {
    base = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, 0);
  }
  if (base == MAP_FAILED) {
    std::perror("software GPU: its memory");
    std::abort();
  }
  base_ = static_cast<std::byte*>(base);
  holes_[0] = kBytes;
}

}  // namespace software_gpu
