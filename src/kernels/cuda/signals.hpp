// How kernels of different ranks wait for each other: the lines of layout/signal_word.hpp, in device memory.
#pragma once

#include <cstdint>

#include "layout/signal_word.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cuda {

// All pointers are to device memory that the kernel can reach.
struct Signals {
  int rank = 0;
  int num_ranks = 1;
  PeerLine* const* lines = nullptr;          // [R]: every rank's lines, by writer; null for ranks that take no part
  std::uint64_t* const* failures = nullptr;  // [R]: every rank's failure word (base/failure_word.hpp), by rank
  std::uint64_t* word = nullptr;             // the signal word of the call's turn; the host sets it, kernels count it up
  std::uint64_t timeout_nanoseconds = 0;
};

// The words of a PeerLine that kernels post and wait for.
enum class LineWord : std::uint8_t { kNone, kFree, kEnter, kData, kDone };

// What a kernel tells its peers, and waits for, at its beginning and at its end. Without lines a kernel does neither.
//
// A kernel waits for the words of all peers, and does its work only if all came in time. If one does not, or if this rank has
// failed before, it does nothing and ends: the failure word says why.
struct Handshake {
  Signals signals{};
  LineWord entry_post = LineWord::kNone;  // before anything is waited for
  LineWord entry_wait = LineWord::kNone;  // before the first access to a peer's memory
  Phase entry_phase = Phase::kNone;
  LineWord exit_post = LineWord::kNone;  // when all accesses of the kernel to peers' memory are over and visible
  LineWord exit_wait = LineWord::kNone;  // before the kernel ends
  Phase exit_phase = Phase::kNone;
  bool ends_turn = false;  // count the signal word up at the end: the next kernel belongs to the next turn
};

}  // namespace tokenyard::cuda
