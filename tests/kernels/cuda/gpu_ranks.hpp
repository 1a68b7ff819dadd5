// Ranks on GPUs for tests of kernels: per rank a device, a stream, signal lines and a failure word that all others can reach.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "memory/device_memory.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/ample_time.hpp"

namespace tokenyard::test {

class GpuRanks {
 public:
  // Rank i lives on GPU i % num_gpus.
  GpuRanks(int num_ranks, int num_gpus);
  ~GpuRanks();
  GpuRanks(const GpuRanks&) = delete;
  GpuRanks& operator=(const GpuRanks&) = delete;

  int num_ranks() const { return static_cast<int>(ranks_.size()); }
  void select(int rank) const { check_cuda(cudaSetDevice(ranks_[rank].device), "cudaSetDevice"); }
  cudaStream_t stream(int rank) const { return ranks_[rank].stream; }
  cuda::LaunchState* state(int rank) const { return ranks_[rank].state.data(); }

  // Memory of the rank's device that all ranks can reach.
  std::shared_ptr<DeviceMemory> shared_memory(int rank, std::size_t num_bytes) const;

  // Pointers, one per rank, as an array on the device of `rank`.
  template <class T>
  DeviceArray<T> on_device(int rank, const std::vector<T>& pointers) const {
    select(rank);
    return DeviceArray<T>(pointers);
  }

  // Lines for two tracks: tests may synchronise on one and measure the other.
  cuda::Signals signals(int rank, std::chrono::nanoseconds timeout = ample_time(), int track = 0) const;
  void set_turn(int rank, std::uint64_t turn, int track = 0);
  std::uint64_t turn(int rank, int track = 0) const;
  std::uint64_t failure(int rank) const;
  std::uint64_t entered(int rank, int peer) const;  // the `enter` that `peer` has posted to `rank` on track 0

  // Waits for all that has been asked of all GPUs, as copies to windows, which the ranks' streams do not wait for.
  void settle() const;

  // Waits for all streams, and expects that no rank has failed.
  void finish() const;

 private:
  struct Rank {
    int device = 0;
    cudaStream_t stream = nullptr;
    DeviceArray<cuda::LaunchState> state;
    std::shared_ptr<DeviceMemory> lines;   // two tracks of PeerLine [R], then the failure word
    DeviceArray<PeerLine*> all_lines;      // [2, R]
    DeviceArray<std::uint64_t*> failures;  // [R]
    DeviceArray<std::uint64_t> turns;      // [2]
  };

  std::uint64_t* failure_word(int rank) const;

  std::vector<int> devices_;
  std::vector<Rank> ranks_;
};

}  // namespace tokenyard::test
