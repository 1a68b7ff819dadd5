// Memory of the current GPU that a command owns.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

// Taking and giving back wait for the kernels of the GPU: do both where no rank's kernel waits for another rank.
class GpuMemory {
 public:
  GpuMemory() = default;
  explicit GpuMemory(std::size_t num_bytes);  // one byte at least, so that there always is an address

  std::byte* data() const { return data_.get(); }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t num_bytes_ = 0;
};

// Both are done when they return, behind all that the stream does.
void copy_to_gpu(std::byte* to, const void* from, std::size_t num_bytes, Stream stream);
std::vector<std::byte> copy_from_gpu(const void* from, std::size_t num_bytes, Stream stream);

}  // namespace tokenyard::cli
