// Bounds that all kinds of Exchange share.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>

#include "base/deadline.hpp"
#include "base/fail.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {

// Of one rank's bytes in one all_gather.
inline constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 20;

// Timeouts beyond this are as good as none, and would overflow the arithmetic of clocks and of poll().
inline constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours{24 * 20};

inline Deadline bounded_deadline(std::chrono::milliseconds timeout) {
  return Deadline(std::clamp(timeout, std::chrono::milliseconds{0}, kLongestTimeout));
}

inline void check_message(std::span<const std::byte> bytes) {
  if (bytes.size() <= kMaxMessageBytes) return;
  fail_argument("all_gather of {} bytes: an Exchange carries at most {} bytes per rank and call; use a Window for payloads",
                bytes.size(), kMaxMessageBytes);
}

inline void check_num_ranks(int num_ranks) {
  if (num_ranks >= 1 && num_ranks <= kMaxRanks) return;
  fail_argument("an Exchange of {} ranks: the number of ranks must be from 1 to {}", num_ranks, kMaxRanks);
}

inline void check_rank(int rank, int num_ranks) {
  if (rank >= 0 && rank < num_ranks) return;
  fail_argument("rank {} of an Exchange of {} ranks: it must be from 0 to {}", rank, num_ranks, num_ranks - 1);
}

}  // namespace tokenyard
