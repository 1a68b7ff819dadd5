// The device side of signals.hpp: post, wait, fail, and the beginning and end of a kernel that does so.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/failure_word.hpp"
#include "kernels/cuda/delays.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/signals.hpp"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

template <class Line>
__device__ auto* word_of(Line* line, LineWord word) {
  switch (word) {
    case LineWord::kFree: return &line->free;
    case LineWord::kEnter: return &line->enter;
    case LineWord::kData: return &line->data;
    default: return &line->done;
  }
}

__device__ inline bool has_signals(const Signals& signals) { return signals.lines != nullptr; }

__device__ inline bool has_failed(const Signals& signals) { return ptx::load_acquire_system(signals.own_failure) != 0; }

// A failure that the host has found out, or 0. Slow: it lies in host memory.
static __device__ __noinline__ std::uint64_t failure_of_host(const Signals& signals) {
  if (signals.host_failures == nullptr) return 0;
  const std::uint64_t failure = ptx::load_acquire_system(signals.host_failures[signals.rank]);
  if (failure != 0) ptx::store_release_system(signals.own_failure, failure);  // later kernels need not look there
  return failure;
}

// The same by warps in turn, of which this is look number `num_looks`; 0 as well where it is not this warp's turn. Reads there
// come one after the other: hundreds of waiting warps that all looked have been seen to wait for the host's memory for
// milliseconds, and not for their peers.
static __device__ __noinline__ std::uint64_t failure_of_host_in_turn(const Signals& signals, int num_looks) {
  constexpr unsigned kWarpsAtOnce = 8;
  const unsigned num_warps = gridDim.x * (blockDim.x / 32);
  const unsigned warp = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  const bool is_due = (static_cast<unsigned>(num_looks) + warp) % ((num_warps + kWarpsAtOnce - 1) / kWarpsAtOnce) == 0;
  return is_due ? failure_of_host(signals) : 0;
}

// The first failure stays, here and at the peers. Two ranks that fail at the same moment may each be told of the other's. Out
// of line, as everything here is kept short: kernels run with cold instruction caches.
static __device__ __noinline__ void fail(const Signals& signals, ErrorCode code, Phase phase, int culprit) {
  const std::uint64_t failure = pack({code, phase, culprit, signals.rank});
  auto* own = reinterpret_cast<unsigned long long*>(signals.own_failure);
  if (atomicCAS_system(own, 0ULL, failure) != 0) return;
#pragma unroll 1
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    // Not every system has atomic operations on host memory for GPUs.
    std::uint64_t* words[] = {signals.failures[peer], signals.host_failures == nullptr ? nullptr : signals.host_failures[peer]};
#pragma unroll 1
    for (std::uint64_t* word : words) {
      if (word == nullptr || ptx::load_acquire_system(word) != 0) continue;
      ptx::store_release_system(word, failure);
    }
  }
}

// A failure that this rank has found or been told of goes to the hosts of all ranks: whoever has told this rank may not have
// come to the others yet. For a rank whose copy engines go on whatever has failed, before they begin: so that every rank can
// know that what lies in its memory stands for nothing any more. By one thread.
__device__ inline void tell_all(const Signals& signals) {
  if (signals.host_failures == nullptr) return;
  const std::uint64_t failure = ptx::load_acquire_system(signals.own_failure);
  if (failure == 0) return;
#pragma unroll 1
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    std::uint64_t* word = signals.host_failures[peer];
    if (word != nullptr && ptx::load_acquire_system(word) == 0) ptx::store_release_system(word, failure);
  }
  ptx::fence_system();
}

// Pairs with the acquire of await. Releases what this thread, and whoever it has synchronised with, has done.
__device__ inline void post(const Signals& signals, int peer, LineWord word, std::uint64_t turn) {
  if (peer == signals.rank || signals.lines[peer] == nullptr) return;
  delay_point(DelayPlace::kPost, signals.rank, peer, turn);
  ptx::store_release_system(word_of(signals.lines[peer] + signals.rank, word), turn);
}

// How a wait differs from others.
struct Patience {
  unsigned nap_nanoseconds = 0;    // between two looks: where many wait, they would disturb those that work
  unsigned grace_nanoseconds = 0;  // beyond the deadline: where others wait for the same, and can say more about it
};

// Waits until `peer` has written `turn` to this rank's `address`. False if it failed: the deadline has passed, the peer is a
// turn ahead, or this rank has been told of a failure.
__device__ inline bool await_word(const Signals& signals, const std::uint64_t* address, int peer, std::uint64_t turn,
                                  Phase phase, const Patience& patience = {}) {
  constexpr int kPollsPerLook = 256;  // at the clock and the failure word: neither is free
  std::uint64_t begin = 0;
  for (int num_polls = 1;; ++num_polls) {
    const std::uint64_t seen = ptx::load_acquire_system(address);
    if (seen == turn) return true;
    if (seen > turn) {
      fail(signals, ErrorCode::kDisagreement, phase, peer);
      return false;
    }
    if (patience.nap_nanoseconds > 0) __nanosleep(patience.nap_nanoseconds);
    if (num_polls % kPollsPerLook != 0) continue;
    const std::uint64_t now = ptx::global_nanoseconds();
    if (begin == 0) begin = now;
    if (has_failed(signals) || failure_of_host_in_turn(signals, num_polls / kPollsPerLook) != 0) return false;
    if (now - begin > signals.timeout_nanoseconds + patience.grace_nanoseconds) {
      fail(signals, ErrorCode::kTimeout, phase, peer);
      return false;
    }
  }
}

// The same for a word of the peer's line.
__device__ inline bool await(const Signals& signals, int peer, LineWord word, std::uint64_t turn, Phase phase) {
  if (peer == signals.rank || signals.lines[peer] == nullptr) return true;
  return await_word(signals, word_of(signals.own_lines + peer, word), peer, turn, phase);
}

// A group of threads that waits together: a warp or a block, of which this is thread `idx` of `num_threads`. Every thread
// learns of its own peers only. `also`: a second word of each peer, or kNone.
static __device__ __noinline__ bool await_all(const Signals& signals, LineWord word, LineWord also, std::uint64_t turn,
                                              Phase phase, int idx, int num_threads) {
  delay_point(DelayPlace::kWait, signals.rank, static_cast<int>(word), turn);
  bool is_well = true;
  const int num_words = also == LineWord::kNone ? 1 : 2;
#pragma unroll 1
  for (int i = idx; i < num_words * signals.num_ranks && is_well; i += num_threads) {
    is_well = await(signals, i / num_words, i % num_words == 0 ? word : also, turn, phase);
  }
  return is_well;
}

// What a thread knows about its call. Loaded at the kernel's beginning and looked at later, so that nobody waits for it.
struct CallTurn {
  std::uint64_t turn;
  std::uint64_t failure;
  bool is_closed;  // the gate is

  __device__ bool may_work() const { return failure == 0 && !is_closed; }
};

// By all lanes of a warp, which go on together or not at all: a failure may be told while they look.
__device__ inline bool all_may_work(const CallTurn& call_turn, bool is_well = true) {
  return __all_sync(kAllLanes, is_well && call_turn.may_work()) != 0;
}

__device__ inline CallTurn load_turn(const Handshake& handshake) {
  if (!has_signals(handshake.signals)) return {0, 0, false};
  const std::uint64_t turn = *handshake.signals.word;
  const bool is_closed = handshake.gate != nullptr && *handshake.gate == 0;
  return {turn, ptx::load_relaxed_system(handshake.signals.own_failure), is_closed};
}

__device__ inline std::uint64_t value_at(const std::uint64_t* word) {
  return word == nullptr ? 0 : ptx::load_relaxed_system(word);
}

// In a few registers.
__device__ inline std::uint64_t call_word_of(const LineHeader& header) {
  return call_word({.kind = header.kind,
                    .in_place_slot = header.in_place_slot,
                    .with_weights = header.with_weights,
                    .with_segments = header.with_segments,
                    .carries_rows = header.carries_rows,
                    .routing_id = value_at(header.routing_id),
                    .placement = value_at(header.placement)});
}

// What `peer`, whose `enter` has come, says about its call.
__device__ inline std::uint64_t call_of(const Signals& signals, int peer) {
  return ptx::load_relaxed_system(&signals.own_lines[peer].call);
}

// This rank's line at a peer, or null: nothing is posted there. An access that the compiler leaves where it is: it would put it
// behind the question whether the kernel may work.
__device__ inline PeerLine* line_at(const Signals& signals, int peer) {
  if (peer >= signals.num_ranks || peer == signals.rank) return nullptr;
  const std::uint64_t address = ptx::load_relaxed_system(reinterpret_cast<const std::uint64_t*>(signals.lines + peer));
  auto* const lines = reinterpret_cast<PeerLine*>(address);
  return lines == nullptr ? nullptr : lines + signals.rank;
}

// One thread, behind a fence_system(), to a line that there is.
__device__ inline void post_behind_fence(const Signals& signals, PeerLine* line, LineWord word, int peer, std::uint64_t turn) {
  delay_point(DelayPlace::kPost, signals.rank, peer, turn);
  ptx::store_relaxed_system(word_of(line, word), turn);
}

// The same: `enter`, and what is said with it.
__device__ inline void post_enter(const Signals& signals, PeerLine* line, std::uint64_t call_word, int peer,
                                  std::uint64_t turn) {
  delay_point(DelayPlace::kPost, signals.rank, peer, turn);
  ptx::store_relaxed_system(&line->enter, turn, call_word);
}

// Whether `peer`, whose `enter` has come, makes the same call.
static __device__ __noinline__ bool check_header(const Handshake& handshake, int peer) {
  const Signals& signals = handshake.signals;
  if (peer == signals.rank || signals.lines[peer] == nullptr) return true;
  const bool is_same = is_same_call(call_of(signals, peer), call_word_of(handshake.header));
  if (!is_same) fail(signals, ErrorCode::kDisagreement, handshake.entry_phase, peer);
  return is_same;
}

// What `peer` has said of its last turn that is over; the fence behind it acquires that.
__device__ inline std::uint64_t done_by(const Signals& signals, int peer) {
  return peer < signals.num_ranks ? ptx::load_relaxed_system(&signals.own_lines[peer].done) : 0;
}

// By one warp of the launch. Whoever posts data before the kernel ends must be this warp, or know that it has posted. False if
// a wait of this lane has failed.
__device__ inline bool post_entry_by_warp(const Handshake& handshake, const CallTurn& call_turn, int lane) {
  const Signals& signals = handshake.signals;
  if (!has_signals(signals) || handshake.entry_post == LineWord::kNone) return true;
  // All at once, and then one fence: another between the words would wait until the first has arrived.
  PeerLine* line = line_at(signals, lane);
  const std::uint64_t done = handshake.enters_behind_done ? done_by(signals, lane) : 0;
  const std::uint64_t call_word = handshake.entry_post == LineWord::kEnter ? call_word_of(handshake.header) : 0;
  ptx::fence_system();
  if (!call_turn.may_work()) return true;
  bool is_well = true;
  const bool looks_back = handshake.enters_behind_done && !is_first_turn(call_turn.turn);
#pragma unroll 1
  for (int peer = lane; peer < signals.num_ranks; peer += 32) {
    if (peer != lane) line = line_at(signals, peer);
    if (line == nullptr) continue;
    const bool is_done = !looks_back || (peer == lane && done == call_turn.turn - 1);
    if (!is_done && !await(signals, peer, LineWord::kDone, call_turn.turn - 1, Phase::kCombineRead)) {
      is_well = false;
      continue;
    }
    if (handshake.entry_post == LineWord::kEnter) {
      post_enter(signals, line, call_word, peer, call_turn.turn);
    } else {
      post_behind_fence(signals, line, handshake.entry_post, peer, call_turn.turn);
    }
    if (handshake.posts_data_at_entry) post_behind_fence(signals, line, LineWord::kData, peer, call_turn.turn);
  }
  return is_well;
}

// The same by warp 0 of block 0. For all threads, at a place that threads reach early.
__device__ inline void post_entry(const Handshake& handshake, const CallTurn& call_turn) {
  if (blockIdx.x == 0 && threadIdx.x < 32) post_entry_by_warp(handshake, call_turn, static_cast<int>(threadIdx.x));
}

// For a warp that is about to access peers' memory. The same answer for all lanes. One warp of the launch `looks` at the
// headers: the peers' next ones cannot come before this kernel has posted at its end. A kernel that posts earlier sees to it
// that this warp does not come here afterwards.
__device__ inline bool await_entry(const Handshake& handshake, const CallTurn& call_turn, bool looks) {
  bool is_well = call_turn.may_work();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bool waits = is_well && has_signals(handshake.signals) && handshake.entry_wait != LineWord::kNone;
  if (waits) {
    is_well = await_all(handshake.signals, handshake.entry_wait, handshake.reads_calls ? LineWord::kEnter : LineWord::kNone,
                        call_turn.turn, handshake.entry_phase, lane, 32);
  }
  __syncwarp();  // what one lane has awaited all may access
  is_well = __all_sync(0xffffffff, is_well);
  if (!is_well || !waits || !looks || !handshake.checks_headers) return is_well;
#pragma unroll 1
  for (int peer = lane; is_well && peer < handshake.signals.num_ranks; peer += 32) is_well = check_header(handshake, peer);
  return __all_sync(0xffffffff, is_well);
}

// The same where warp 0 of block 0 comes here: it looks.
__device__ inline bool await_entry(const Handshake& handshake, const CallTurn& call_turn) {
  return await_entry(handshake, call_turn, blockIdx.x == 0 && threadIdx.x < 32);
}

// At the end of every block; all its threads. Everything that the block has written must have been written (bulk stores: waited
// for). `is_well`: no wait of this thread has failed. The last block to come posts and waits for all.
__device__ inline void leave_kernel(const Handshake& handshake, const CallTurn& call_turn, bool is_well, LaunchState* state) {
  const Signals& signals = handshake.signals;
  const bool with_signals = has_signals(signals);
  constexpr std::uint32_t kFailed = 1U << 16;  // blocks are counted below
  __shared__ std::uint32_t others;
  const bool block_is_well = __syncthreads_and(is_well && call_turn.may_work()) != 0;
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    std::uint32_t count = 0;
    if (lane == 0) {
      if (with_signals) delay_point(DelayPlace::kLeave, signals.rank, static_cast<int>(handshake.exit_post), call_turn.turn);
      // What the block has written becomes visible to the last block before its count, and by that block's fence to the peers
      // before its words: causality does not end at a scope.
      if (with_signals) ptx::fence_device();
      count = atomicAdd(&state->num_blocks_done, block_is_well ? 1U : 1U + kFailed);
    }
    const bool posts = with_signals && handshake.exit_post != LineWord::kNone;
    PeerLine* line = posts ? line_at(signals, lane) : nullptr;  // while the count is on its way
    bool tells = false;
    if (lane == 0) {
      others = count;
      tells = posts && block_is_well && count == gridDim.x - 1;  // the last block, and none has failed
      if (tells) ptx::fence_system();
    }
    // All that lane 0 writes, which has fenced, without a look-up in between.
    if (__any_sync(0xffffffff, tells)) {
#pragma unroll 1
      for (int peer = 0; peer < signals.num_ranks; ++peer) {
        if (peer > 0 && peer % 32 == 0) line = line_at(signals, peer + lane);
        const auto target = __shfl_sync(0xffffffff, reinterpret_cast<std::uintptr_t>(line), peer % 32);
        if (lane != 0 || target == 0) continue;
        ptx::store_relaxed_system(word_of(reinterpret_cast<PeerLine*>(target), handshake.exit_post), call_turn.turn);
      }
    }
  }
  __syncthreads();
  if (others % kFailed != gridDim.x - 1) return;
  if (with_signals && others < kFailed && block_is_well && handshake.exit_wait != LineWord::kNone) {
    await_all(signals, handshake.exit_wait, LineWord::kNone, call_turn.turn, handshake.exit_phase,
              static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    *state = LaunchState{};
    if (with_signals && handshake.ends_turn && !call_turn.is_closed) *signals.word = call_turn.turn + 1;
  }
}

}  // namespace tokenyard::cuda
