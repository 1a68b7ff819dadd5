// What the verbs of a Window do where it lies on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "memory/memory_region.hpp"
#include "tokenyard/device_window.hpp"
#include "tokenyard/execution.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

// How long a region of a rank must be to hold num_bytes of a window and, behind them, what its kernels need.
std::size_t device_window_bytes(std::size_t num_bytes, int num_ranks);

// Addresses are of regions of the window, checked. Any number of threads may use one.
class DeviceVerbs {
 public:
  virtual ~DeviceVerbs() = default;

  virtual const DeviceWindow& window() const noexcept = 0;

  // Return when they are done. The host's side may be any memory that CUDA copies.
  virtual void copy(void* destination, const void* source, std::size_t num_bytes) = 0;
  virtual void store(std::uint64_t* word, std::uint64_t value) = 0;
  virtual std::uint64_t add(std::uint64_t* word, std::uint64_t value) = 0;  // the old value
  virtual std::uint64_t load(const std::uint64_t* word) = 0;

  // Enqueue and return.
  virtual void copy(void* destination, const void* source, std::size_t num_bytes, Stream stream) = 0;
  virtual void store(std::uint64_t* word, std::uint64_t value, Stream stream) = 0;
  virtual void wait(std::size_t offset, Compare compare, std::uint64_t value, std::uint64_t timeout_nanoseconds,
                    Stream stream) = 0;
};

// Of regions that are device_window_bytes() long; num_bytes is the window's. Without CUDA in the build: Error(kUnsupported).
std::unique_ptr<DeviceVerbs> make_device_verbs(const Peers& peers, const std::vector<std::shared_ptr<MemoryRegion>>& regions,
                                               std::size_t num_bytes);

}  // namespace tokenyard
