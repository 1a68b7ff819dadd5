// What a test's rank on a GPU has for as long as the test runs: streams, events and memory.
//
// All of it is made before the first call: taking memory from CUDA waits for the kernels of the device, and those may wait for
// a rank that is about to take memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/support/arena.hpp"

namespace tokenyard::test {

class GpuRank {
 public:
  // Lives on GPU rank % number of GPUs.
  explicit GpuRank(int rank);
  ~GpuRank();
  GpuRank(const GpuRank&) = delete;
  GpuRank& operator=(const GpuRank&) = delete;

  int device() const { return device_; }
  bool has_bulk_copies() const { return has_bulk_copies_; }

  // To be called once by every thread that uses the rank.
  void select() const;

  // Makes kernels on its GPU dawdle, or with 0 no longer (kernels/cuda/delays.hpp). Selects the GPU.
  void delay_kernels(std::uint64_t seed) const;

  // Neither of them waits for the default stream. What the test reads is ordered behind the first.
  cudaStream_t stream() const { return stream_; }
  cudaStream_t other_stream() const { return other_stream_; }
  cudaEvent_t event_before() const { return event_before_; }
  cudaEvent_t event_behind() const { return event_behind_; }

  // Of the host, at the same address for the GPU; and of the device.
  Arena& pinned() { return *pinned_; }
  Arena& on_device() { return *on_device_; }

  // Copies between the device and any memory of the host, done when they return. They wait for no stream: the caller has waited
  // for whatever writes or reads the memory.
  void copy_to_device(std::byte* to, const std::byte* from, std::size_t num_bytes);
  void copy_to_host(std::byte* to, const std::byte* from, std::size_t num_bytes);

  // Waits for both streams.
  void finish() const;

 private:
  int device_ = 0;
  bool has_bulk_copies_ = false;
  cudaStream_t stream_ = nullptr;
  cudaStream_t other_stream_ = nullptr;
  cudaStream_t copy_stream_ = nullptr;
  cudaEvent_t event_before_ = nullptr;
  cudaEvent_t event_behind_ = nullptr;
  void* pinned_memory_ = nullptr;
  void* device_memory_ = nullptr;
  void* staging_ = nullptr;  // pinned: a copy from other memory may block the driver for all threads
  std::unique_ptr<Arena> pinned_, on_device_;
};

// The first `num_ranks` ranks of this process. Made once, before any of them makes a call; they last as long as the process.
const std::vector<std::unique_ptr<GpuRank>>& gpu_ranks(int num_ranks);

}  // namespace tokenyard::test
