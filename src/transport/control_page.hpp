// The page through which a rank can always be seen by its domain: what failed, whom it waits for, whether it has left.
#pragma once

#include <cstdint>

#include "base/failure_word.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard {

// Lies at the start of a region that every member maps. All words are accessed as std::atomic_ref.
struct ControlPage {
  std::uint64_t failure;  // packed Failure of the first failure, 0 while there is none; written by any rank, once
  std::uint64_t waiting;  // packed (phase, peer) that the owner waits for, 0 while it does not; written by the owner
  std::uint64_t left;     // 1 once the owner has let go of the group on purpose
  std::uint64_t threads;  // 1 once several threads of the owner have waited at the same time: `waiting` is one of them then
  std::uint64_t pulse;    // rises about once a millisecond while the owner waits; written by the owner
};
inline constexpr std::size_t kControlPageBytes = 4096;

constexpr std::uint64_t pack_waiting(Phase phase, int peer) {
  return (static_cast<std::uint64_t>(phase) << 32) | static_cast<std::uint64_t>(peer + 1);
}

constexpr int waiting_peer(std::uint64_t word) { return static_cast<int>(word & 0xffffffff) - 1; }
constexpr Phase waiting_phase(std::uint64_t word) { return static_cast<Phase>(word >> 32); }

}  // namespace tokenyard
