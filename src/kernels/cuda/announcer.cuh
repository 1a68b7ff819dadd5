// What a block has sent is counted by a warp of its own: the fences and atomic operations of counting take longer than sending
// a row, so the warps that send only leave word of it in shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/segments.cuh"

namespace tokenyard::cuda {

// From one warp that sends to the one that counts.
struct SentQueue {
  static constexpr unsigned kCapacity = 32;  // at least as many as a warp's lanes
  enum State : unsigned { kSending, kSent, kFailed };

  volatile unsigned num_put;
  volatile unsigned num_taken;
  volatile unsigned state;
  struct Entry {
    std::int32_t destination;
    std::int32_t segment;
    std::uint32_t num_parts;      // that have been sent
    std::uint32_t num_all_parts;  // of the segment
  } entries[kCapacity];

  __device__ void init() {
    num_put = 0;
    num_taken = 0;
    state = kSending;
  }

  // By all lanes of the warp, of which some have an entry, and all of whose writes that it speaks of stand before.
  __device__ void put(bool is_there, const Entry& entry, int lane) {
    const unsigned which = __ballot_sync(0xffffffff, is_there);
    if (which == 0) return;
    const unsigned first = num_put;
    const auto end = first + static_cast<unsigned>(__popc(which));
    while (end - num_taken > kCapacity) {
    }
    if (is_there) entries[(first + static_cast<unsigned>(__popc(which & ((1U << lane) - 1)))) % kCapacity] = entry;
    __syncwarp();
    if (lane != 0) return;
    __threadfence_block();
    num_put = end;
  }

  // By one thread, behind the warp's last put().
  __device__ void end(bool is_well) {
    __threadfence_block();
    state = is_well ? kSent : kFailed;
  }
};

// The warp that counts; it ends when all `num_queues` senders of the block have, at most one per lane. Returns whether all is
// well; the same for all lanes.
__device__ inline bool count_all_sent(const Segments& segments, const Signals& signals, SentQueue* queues, int num_queues,
                                      std::uint64_t turn, int lane) {
  SentQueue* queue = lane < num_queues ? queues + lane : nullptr;
  unsigned num_taken = 0;
  bool is_well = true;
  for (;;) {
    unsigned state = SentQueue::kSent;
    unsigned num_put = num_taken;
    if (queue != nullptr) {
      state = queue->state;
      __threadfence_block();
      num_put = queue->num_put;
    }
    if (__any_sync(0xffffffff, num_put != num_taken)) {
      ptx::fence_device();  // what has been written goes before what is counted
      for (; num_taken != num_put; ++num_taken) {
        const SentQueue::Entry entry = queue->entries[num_taken % SentQueue::kCapacity];
        count_done(segments, signals, entry.destination, entry.segment, entry.num_parts, entry.num_all_parts, turn);
      }
      if (queue != nullptr) queue->num_taken = num_taken;
      __syncwarp();
      continue;
    }
    is_well = is_well && state != SentQueue::kFailed;
    if (__all_sync(0xffffffff, state != SentQueue::kSending)) return __all_sync(0xffffffff, is_well) != 0;
    __nanosleep(100);
  }
}

}  // namespace tokenyard::cuda
