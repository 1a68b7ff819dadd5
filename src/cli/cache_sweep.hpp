// Makes the processor's caches cold.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tokenyard::cli {

// All ranks of a host sweep at the same time, each its share of what fills the caches twice over.
class CacheSweep {
 public:
  explicit CacheSweep(int num_ranks) {
    const long shared_cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const long private_cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    const long num_bytes = std::max(2 * shared_cache / num_ranks, 2 * private_cache);
    memory_.resize(static_cast<std::size_t>(std::clamp(num_bytes, kLeastBytes, kMostBytes)));
  }

  void sweep() {
    for (std::size_t i = 0; i < memory_.size(); i += kLineBytes) ++memory_[i];
    asm volatile("" : : "r"(memory_.data()) : "memory");  // the stores are the point, though nobody reads them
  }

 private:
  static constexpr long kLeastBytes = 4L << 20;
  static constexpr long kMostBytes = 128L << 20;
  static constexpr std::size_t kLineBytes = 64;
  std::vector<unsigned char> memory_;
};

}  // namespace tokenyard::cli
