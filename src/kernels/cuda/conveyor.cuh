// A warp's conveyor: bulk loads bring pieces of rows into stages of shared memory, bulk stores send them on from there, several
// stages under way at once. One thread runs it, because the copy engine keeps groups of stores by thread; what it need not do
// itself the other lanes do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace tokenyard::cuda {

// Stages under way per warp; so many of them are being loaded, the others stored.
inline constexpr int kNumStages = 4;
inline constexpr int kNumAhead = 1;

// Shared memory of a warp. Stages are multiples of 128 bytes: bulk copies to and from other addresses are slower.
constexpr int conveyor_bytes(int stage_bytes, int max_targets) {
  return kNumStages * (stage_bytes + static_cast<int>(sizeof(std::uint64_t)) + static_cast<int>(sizeof(int)) +
                       static_cast<int>(sizeof(std::byte*)) * max_targets);
}

#if __CUDA_ARCH__ >= 900

class Conveyor {
 public:
  __device__ Conveyor(std::byte* shared, int stage_bytes, int max_targets, int warp, int num_warps)
      : stages_(shared + warp * kNumStages * stage_bytes), stage_bytes_(stage_bytes), max_targets_(max_targets) {
    std::byte* behind_stages = shared + num_warps * kNumStages * stage_bytes;
    barriers_ = reinterpret_cast<ptx::Barrier*>(behind_stages + warp * conveyor_bytes(0, max_targets));
    num_bytes_ = reinterpret_cast<int*>(barriers_ + kNumStages);
    targets_ = reinterpret_cast<std::byte**>(num_bytes_ + kNumStages);
  }

  __device__ void init() {
#pragma unroll 1
    for (int stage = 0; stage < kNumStages; ++stage) ptx::barrier_init(&barriers_[stage], 1);
    ptx::barrier_init_fence();
  }

  // Every lane keeps count of the stages, also those that do not run the conveyor.
  __device__ int num_loaded() const { return num_loaded_; }
  __device__ bool is_full() const { return num_loaded_ - num_stored_ > kNumAhead; }
  __device__ bool is_empty() const { return num_loaded_ == num_stored_; }
  __device__ void count_load() { ++num_loaded_; }
  __device__ void count_store() { ++num_stored_; }

  // Where the next stage's contents shall go: max_targets addresses, null for nowhere. Free as soon as the stores of the piece
  // that used them have been started.
  __device__ std::byte** next_targets() const { return targets_ + num_loaded_ % kNumStages * max_targets_; }

  // The thread that runs it, from here on; each before its count_.
  //
  // If `written` is asked for, all stages before this one have been written when load returns, except the youngest
  // kNumStages - 1.
  __device__ void load(const std::byte* from, int num_bytes, bool written) {
    const int stage = num_loaded_ % kNumStages;
    // The stores of the stage's previous contents are the oldest that can be under way.
    if (written) {
      ptx::bulk_wait_written<kNumStages - kNumAhead - 1>();
    } else {
      ptx::bulk_wait_read<kNumStages - kNumAhead - 1>();
    }
    ptx::barrier_arrive_expecting(&barriers_[stage], num_bytes);
    ptx::bulk_load(stages_ + stage * stage_bytes_, from, num_bytes, &barriers_[stage]);
    num_bytes_[stage] = num_bytes;
  }

  // The oldest stage, when it has been loaded.
  __device__ void store() {
    await_loaded();
    const int stage = num_stored_ % kNumStages;
    std::byte* const* targets = targets_ + stage * max_targets_;
    const int num_bytes = num_bytes_[stage];
#pragma unroll 1
    for (int o = 0; o < max_targets_; ++o) {
      std::byte* target = targets[o];
      if (target != nullptr) ptx::bulk_store(target, stages_ + stage * stage_bytes_, num_bytes);
    }
    ptx::bulk_commit();
  }

  // Instead: shared memory may not go while something is still coming.
  __device__ void await_loaded() {
    while (!ptx::barrier_is_past(&barriers_[num_stored_ % kNumStages], num_stored_ / kNumStages % 2)) {
    }
  }

 private:
  std::byte* stages_;  // [kNumStages, stage_bytes]
  int stage_bytes_;
  int max_targets_;
  ptx::Barrier* barriers_;
  int* num_bytes_;
  std::byte** targets_;  // [kNumStages, max_targets]
  int num_loaded_ = 0;   // stages whose loads have been started, and whose stores have been
  int num_stored_ = 0;
};

#endif

}  // namespace tokenyard::cuda
