// Where cudaMalloc takes memory from: one file, so that another process can map pieces of it by IPC handles.
#pragma once

#include <cstddef>
#include <map>

namespace software_gpu {

class Heap {
 public:
  // Whole pages, of zeros.
  std::byte* allocate(std::size_t num_bytes);
  // The bytes that had been asked for; 0 if there is no such piece.
  std::size_t free(std::byte* address);

  int fd() const { return fd_; }
  // Of a piece, and 0 bytes of what is none.
  std::size_t offset_of(const void* address) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_);
  }
  std::size_t mapped_bytes(std::size_t offset) const;

 private:
  struct Piece {
    std::size_t taken_bytes;
    std::size_t num_bytes;
  };

  void open();

  int fd_ = -1;
  std::byte* base_ = nullptr;
  std::map<std::size_t, std::size_t> holes_;  // by offset
  std::map<std::size_t, Piece> pieces_;       // by offset
};

}  // namespace software_gpu
