// How kernels of different ranks wait for each other: the lines of layout/signal_word.hpp, in device memory.
#pragma once

#include <cstdint>

#include "layout/signal_word.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cuda {

// All pointers are to memory that the kernel can reach. What a kernel needs before it can do anything stands here itself:
// caches are cold then, and every look-up on the way is most of a microsecond.
struct Signals {
  int rank = 0;
  int num_ranks = 1;
  PeerLine* const* lines = nullptr;          // [R]: every rank's lines, by writer; null for ranks that take no part
  const PeerLine* own_lines = nullptr;       // lines[rank]
  std::uint64_t* const* failures = nullptr;  // [R]: every rank's failure word (base/failure_word.hpp) on its device
  std::uint64_t* own_failure = nullptr;      // failures[rank]
  // [R], or null: the failure words that hosts read and write, in host memory. What hosts find out ends waits here, and what
  // kernels find out is seen there.
  std::uint64_t* const* host_failures = nullptr;
  std::uint64_t* word = nullptr;  // the signal word of the call's turn; the host sets it, kernels count it up
  std::uint64_t timeout_nanoseconds = 0;
};

// The words of a PeerLine that kernels post and wait for.
enum class LineWord : std::uint8_t { kNone, kFree, kEnter, kData, kDone };

// What a rank says about its call when it posts `enter`, and what it expects the others to say.
struct LineHeader {
  CallKind kind = CallKind::kDispatch;
  std::int32_t in_place_slot = -1;
  bool with_weights = false;
  bool with_segments = false;  // may differ from rank to rank, as in_place_slot and the next
  bool carries_rows = false;
  const std::uint64_t* routing_id = nullptr;  // device memory; null: 0
  const std::uint64_t* placement = nullptr;   // the same
};

// What a kernel tells its peers, and waits for, at its beginning and at its end. Without lines a kernel does neither.
//
// A kernel waits for the words of all peers, and does its work only if all came in time. If one does not, or if this rank has
// failed before, it does nothing and ends: the failure word says why.
struct Handshake {
  Signals signals{};
  LineHeader header{};
  // The entry post comes behind `done` of all peers in the turn before: until then they may look at this rank's words of that.
  bool enters_behind_done = false;
  // Before anything else is waited for. kEnter: with the header.
  LineWord entry_post = LineWord::kNone;
  bool posts_data_at_entry = false;       // behind entry_post: nothing is sent that peers have to wait for
  LineWord entry_wait = LineWord::kNone;  // before the first access to a peer's memory
  // With the entry wait, for the peers' `enter`: those who post data at their entry post both in no order. Only where nobody
  // enters the next turn before this kernel has posted at its exit.
  bool reads_calls = false;
  bool checks_headers = false;  // behind the entry wait, which must not come before the peers' `enter`
  Phase entry_phase = Phase::kNone;
  // When all accesses of the kernel to peers' memory are over and visible; none, where the kernel does so earlier by itself.
  LineWord exit_post = LineWord::kNone;
  LineWord exit_wait = LineWord::kNone;  // before the kernel ends
  Phase exit_phase = Phase::kNone;
  bool ends_turn = false;  // count the signal word up at the end: the next kernel belongs to the next turn
  // Null, or a word in device memory that is 0 if this kernel shall neither work nor say anything.
  const std::uint32_t* gate = nullptr;
};

}  // namespace tokenyard::cuda
