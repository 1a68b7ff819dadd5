// What a block has sent is counted by a warp of its own: on a multiprocessor that stores all the time a fence takes
// microseconds, so the warps that send only leave word of it in shared memory. Segments are announced by one warp of the
// launch, which had best stand on a multiprocessor that stores nothing to peers.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/cuda/segments.cuh"

namespace tokenyard::cuda {

// From one warp that sends to the one that counts. Its words are read while they are written, so every access is an atomic
// operation; what comes in which order, fences say.
class SentQueue {
 public:
  static constexpr unsigned kCapacity = 32;  // at least as many as a warp's lanes
  enum State : unsigned { kSending, kSent, kFailed };

  struct Entry {
    std::int32_t destination;  // below 2^24
    std::int32_t segment;
    std::uint32_t num_parts;  // that have been sent; below 2^8
  };

  // By one thread, before others use it.
  __device__ void init() {
    num_put_ = 0;
    num_taken_ = 0;
    state_ = kSending;
    is_closed_ = 0;
  }

  // --- The warp that sends ---

  // By all lanes, of which some have an entry, and all of whose writes that it speaks of stand before.
  __device__ void put(bool is_there, const Entry& entry, int lane) {
    const unsigned which = __ballot_sync(0xffffffff, is_there);
    if (which == 0) return;
    unsigned first = 0;
    if (lane == 0) {
      first = look_at(num_put_);
      while (first + static_cast<unsigned>(__popc(which)) - look_at(num_taken_) > kCapacity && look_at(is_closed_) == 0) {
      }
    }
    first = __shfl_sync(0xffffffff, first, 0);
    __threadfence_block();  // what is overwritten has been read
    if (is_there) {
      const unsigned idx = (first + static_cast<unsigned>(__popc(which & ((1U << lane) - 1)))) % kCapacity;
      atomicExch(&entries_[idx], static_cast<unsigned long long>(entry.segment) << 32 |
                                     static_cast<unsigned>(entry.destination) << 8 | entry.num_parts);
    }
    __syncwarp();
    if (lane != 0) return;
    __threadfence_block();
    atomicExch(&num_put_, first + static_cast<unsigned>(__popc(which)));
  }

  // By one thread, behind the warp's last put().
  __device__ void end(bool is_well) {
    __threadfence_block();
    atomicExch(&state_, static_cast<unsigned>(is_well ? kSent : kFailed));
  }

  // --- The thread that counts ---

  __device__ State state() { return static_cast<State>(look_at(state_)); }
  __device__ unsigned num_put() { return look_at(num_put_); }
  __device__ Entry entry(unsigned number) {
    const unsigned long long entry = look_at(entries_[number % kCapacity]);
    return {static_cast<std::int32_t>(entry >> 8 & 0xffffff), static_cast<std::int32_t>(entry >> 32),
            static_cast<std::uint32_t>(entry & 0xff)};
  }
  // Those before `end` may be overwritten.
  __device__ void take_until(unsigned end) {
    __threadfence_block();
    atomicExch(&num_taken_, end);
  }
  // Nobody takes any more.
  __device__ void close() { atomicExch(&is_closed_, 1U); }

 private:
  template <class Word>
  __device__ static Word look_at(Word& word) {
    return atomicOr(&word, Word{0});
  }

  unsigned num_put_;
  unsigned num_taken_;
  unsigned state_;
  unsigned is_closed_;
  unsigned long long entries_[kCapacity];
};

// Takes word from the senders of a block, at most one per lane of the warp that does so, and counts what they have sent.
class SentCounter {
 public:
  __device__ SentCounter(SentQueue* queues, int num_queues, int lane) : queue_(lane < num_queues ? queues + lane : nullptr) {}

  // Whether there was anything; the same for all lanes.
  __device__ bool take(const Segments& segments) {
    unsigned state = SentQueue::kSent;
    unsigned num_put = num_taken_;
    if (queue_ != nullptr) {
      state = queue_->state();
      __threadfence_block();  // what was put before the end is seen
      num_put = queue_->num_put();
    }
    if (!__any_sync(kAll, num_put != num_taken_)) {
      is_well_ = __all_sync(kAll, state != SentQueue::kFailed) != 0;
      is_over_ = __all_sync(kAll, state != SentQueue::kSending) != 0;
      return false;
    }
    ptx::fence_device();  // what has been written goes before what is counted
    for (; num_taken_ != num_put; ++num_taken_) {
      const SentQueue::Entry entry = queue_->entry(num_taken_);
      atomicAdd(counter_of(segments, entry.destination, entry.segment), entry.num_parts);
    }
    if (queue_ != nullptr) queue_->take_until(num_taken_);
    __syncwarp();
    return true;
  }

  // Instead of further calls of take().
  __device__ void close() {
    if (queue_ != nullptr) queue_->close();
  }

  // As of the last take(): whether all senders have ended, and whether they are well.
  __device__ bool is_over() const { return is_over_; }
  __device__ bool is_well() const { return is_well_; }

 private:
  static constexpr unsigned kAll = 0xffffffff;
  SentQueue* queue_;
  unsigned num_taken_ = 0;
  bool is_over_ = false;
  bool is_well_ = true;
};

// Announces the segments that all blocks together have sent, to each peer in their order; by one warp of the launch, in which
// lane i cares for peers i, i + 32, ... Counters are left zero. `Blocks` knows what there is: is_wanted(peer), num_rows(peer).
template <class Blocks>
class Announcer {
 public:
  // `next`: shared memory, [R]. Parts of a row are counted one by one.
  __device__ Announcer(const Segments& segments, const Signals& signals, const Blocks& blocks, std::uint32_t row_parts,
                       int* next, int lane)
      : segments_(segments), signals_(signals), blocks_(blocks), row_parts_(row_parts), next_(next), lane_(lane) {
    for (int peer = lane; peer < signals.num_ranks; peer += 32) {
      const bool is_there = blocks.is_wanted(peer) && blocks.num_rows(peer) > 0;
      next[peer] = is_there ? 0 : kNoMore;
      if (is_there) ++num_left_;
    }
  }

  // The same for all lanes.
  __device__ bool is_over() const { return !__any_sync(0xffffffff, num_left_ > 0); }

  // Whether there was anything; the same for all lanes.
  __device__ bool announce(std::uint64_t turn) {
    bool was_anything = false;
    for (int first = 0; first < signals_.num_ranks; first += 32) {
      const int peer = first + lane_;
      int begin = kNoMore;
      int end = kNoMore;
      if (peer < signals_.num_ranks && next_[peer] != kNoMore) {
        begin = end = next_[peer];
        const std::int64_t num_rows = blocks_.num_rows(peer);
        const auto num_all = static_cast<int>(num_segments(num_rows));
        while (end < num_all &&
               ptx::load_relaxed_device(counter_of(segments_, peer, end)) == parts_of_segment(end, num_rows, row_parts_)) {
          ++end;
        }
        if (end == num_all) --num_left_;
        next_[peer] = end == num_all ? kNoMore : end;
      }
      if (!__any_sync(0xffffffff, begin != end)) continue;
      was_anything = true;
      delay_point(DelayPlace::kPost, signals_.rank, first, turn);
      ptx::fence_system();  // acquires what has been counted, and releases it
      for (int segment = begin; segment < end; ++segment) {
        *counter_of(segments_, peer, segment) = 0;
        ptx::store_relaxed_system(segments_.words[peer] + word_idx(segments_, signals_.rank, segment), turn);
      }
    }
    return was_anything;
  }

 private:
  static constexpr int kNoMore = INT_MAX;

  const Segments& segments_;
  const Signals& signals_;
  Blocks blocks_;
  std::uint32_t row_parts_;
  int* next_;
  int lane_;
  int num_left_ = 0;  // peers of this lane
};

// The warp that counts what the senders of its block leave word of, and, if it `announces`, tells peers of what the launch has
// sent, until all is done. `told` is called by one thread when the block's senders have ended, if all are well. False if
// something has failed.
template <class Blocks, class Told>
__device__ bool count_and_announce(const Segments& segments, const Signals& signals, SentCounter& counter,
                                   Announcer<Blocks>& announcer, bool announces, std::uint64_t turn, Phase phase, int lane,
                                   Told told) {
  constexpr unsigned kNapNanoseconds = 250;
  constexpr unsigned kTurnsPerLook = 64;  // at the clock and the failure words
  bool is_well = true;
  bool is_told = false;
  std::uint64_t idle_since = 0;  // 0: there was something since the last look
  for (unsigned num_turns = 1; is_well; ++num_turns) {
    const bool has_taken = counter.take(segments);
    const bool has_announced = announces && announcer.announce(turn);
    if (has_taken || has_announced) {
      idle_since = 0;
      continue;
    }
    is_well = counter.is_well();
    if (is_well && counter.is_over() && !is_told) {
      __syncwarp();  // what all lanes have seen stands before what one says
      if (lane == 0) told();
      is_told = true;
    }
    if (is_well && counter.is_over() && (!announces || announcer.is_over())) break;
    __nanosleep(kNapNanoseconds);
    if (num_turns % kTurnsPerLook != 0) continue;
    const std::uint64_t now = ptx::global_nanoseconds();
    if (idle_since == 0) idle_since = now;
    bool has_ended = has_failed(signals) || failure_of_host(signals) != 0;
    if (!has_ended && now - idle_since > signals.timeout_nanoseconds) {
      fail(signals, ErrorCode::kTimeout, phase, signals.rank);
      has_ended = true;
    }
    is_well = !__any_sync(0xffffffff, has_ended) && is_well;
  }
  counter.close();
  return is_well;
}

}  // namespace tokenyard::cuda
