// A warp's conveyor: bulk loads bring parts of rows into stages of shared memory, bulk stores send them on from there, several
// stages under way at once. One thread runs it, because the copy engine keeps groups of stores by thread; the other lanes do
// what they can do for it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace tokenyard::cuda {

// Stages under way per warp. One of them is being loaded, the others stored; or two, where stores are quick.
inline constexpr int kNumStages = 4;
// Rows whose targets are known: more than can be under way and not stored yet.
inline constexpr int kNumConveyedRows = 4;

// What a stage holds.
struct Stage {
  int num_bytes;
  int in_row;
  int row_idx;  // of kNumConveyedRows
};

// Shared memory of a warp. Stages are multiples of 128 bytes: bulk copies to and from other addresses are slower.
constexpr int conveyor_bytes(int stage_bytes, int max_targets) {
  return kNumStages * (stage_bytes + static_cast<int>(sizeof(std::uint64_t) + sizeof(Stage))) +
         kNumConveyedRows * static_cast<int>(sizeof(std::byte*)) * max_targets;
}

#if __CUDA_ARCH__ >= 900

class Conveyor {
 public:
  __device__ Conveyor(std::byte* shared, int stage_bytes, int max_targets, int warp, int num_warps)
      : stages_(shared + warp * kNumStages * stage_bytes), stage_bytes_(stage_bytes), max_targets_(max_targets) {
    // All warps' stages come first, for the sake of their alignment.
    std::byte* others = shared + num_warps * kNumStages * stage_bytes + warp * conveyor_bytes(0, max_targets);
    barriers_ = reinterpret_cast<ptx::Barrier*>(others);
    targets_ = reinterpret_cast<std::byte**>(barriers_ + kNumStages);
    contents_ = reinterpret_cast<Stage*>(targets_ + kNumConveyedRows * max_targets);
  }

  // By one thread.
  __device__ void init() {
#pragma unroll 1
    for (int stage = 0; stage < kNumStages; ++stage) ptx::barrier_init(&barriers_[stage], 1);
    ptx::barrier_init_fence();
  }

  // While it is empty; by all lanes, as everything that says nothing else: they keep count of what lane 0 does.
  __device__ void load_ahead(int num_ahead) { num_ahead_ = num_ahead; }

  __device__ int num_loaded() const { return num_loaded_; }
  __device__ int num_stored() const { return num_stored_; }
  // Parts that can be loaded before one must be stored.
  __device__ int num_free() const { return num_ahead_ - (num_loaded_ - num_stored_); }
  __device__ bool is_empty() const { return num_loaded_ == num_stored_; }

  // Where the next row shall go: max_targets addresses, null for nowhere; to be written before the row is begun.
  __device__ std::byte** next_targets() const { return targets_ + (num_rows_ + 1) % kNumConveyedRows * max_targets_; }
  __device__ void begin_row() { ++num_rows_; }

  // Loads bytes [begin, end) of the row that was begun, which lies at `from`, in parts of `part_bytes`; and stores the oldest
  // parts as soon as more than the wanted number are under way, at the places in their own rows where they were loaded.
  // Lane 0 works.
  __device__ void move(const std::byte* from, int begin, int end, int part_bytes, bool works) {
#pragma unroll 1
    for (; begin < end; begin += part_bytes) {
      if (works) load(from + begin, begin, min(part_bytes, end - begin));
      ++num_loaded_;
      if (num_loaded_ - num_stored_ > num_ahead_) store_next(works);
    }
  }

  // The oldest part that is under way.
  __device__ void store_next(bool works) {
    if (works) store();
    ++num_stored_;
  }

  // Instead, where something has failed: shared memory may not go while something is still coming.
  __device__ void abandon_next(bool works) {
    if (works) await_loaded();
    ++num_stored_;
  }

  // Until the parts before number `end`, which have been stored, have been written. By lane 0.
  __device__ void await_written(int end) const {
    if (num_stored_ - end >= 2) {
      ptx::bulk_wait_written<2>();
    } else {
      ptx::bulk_wait_written<0>();
    }
  }

 private:
  __device__ void load(const std::byte* from, int in_row, int num_bytes) {
    const int stage = num_loaded_ % kNumStages;
    // The stores of the stage's previous contents are the oldest that can be under way.
    if (num_ahead_ == 1) {
      ptx::bulk_wait_read<kNumStages - 2>();
    } else {
      ptx::bulk_wait_read<kNumStages - 3>();
    }
    ptx::barrier_arrive_expecting(&barriers_[stage], num_bytes);
    ptx::bulk_load(stages_ + stage * stage_bytes_, from, num_bytes, &barriers_[stage]);
    contents_[stage] = {num_bytes, in_row, num_rows_ % kNumConveyedRows};
  }

  __device__ void store() {
    await_loaded();
    const int stage = num_stored_ % kNumStages;
    const Stage contents = contents_[stage];
    std::byte* const* targets = targets_ + contents.row_idx * max_targets_;
#pragma unroll 1
    for (int o = 0; o < max_targets_; ++o) {
      std::byte* target = targets[o];
      if (target != nullptr) ptx::bulk_store(target + contents.in_row, stages_ + stage * stage_bytes_, contents.num_bytes);
    }
    ptx::bulk_commit();
  }

  __device__ void await_loaded() {
    while (!ptx::barrier_is_past(&barriers_[num_stored_ % kNumStages], num_stored_ / kNumStages % 2)) {
    }
  }

  std::byte* stages_;  // [kNumStages, stage_bytes]
  int stage_bytes_;
  int max_targets_;
  ptx::Barrier* barriers_;
  std::byte** targets_;  // [kNumConveyedRows, max_targets]
  Stage* contents_;      // [kNumStages]
  int num_loaded_ = 0;   // parts whose loads have been started, and whose stores have been
  int num_stored_ = 0;
  int num_rows_ = 0;
  int num_ahead_ = 1;
};

#endif

}  // namespace tokenyard::cuda
