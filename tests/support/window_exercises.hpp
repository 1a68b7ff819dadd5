// What ranks do with a window, whether they are threads or processes.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tokenyard/group.hpp"

namespace tokenyard::test {

// Every rank writes its part of every rank's window, and reads all of them back. The window has 100 bytes per rank.
inline void exercise_put_and_get(const Group& group, const Window& window) {
  constexpr std::size_t kPart = 100;
  const int num_ranks = window.num_ranks();
  const auto byte_of = [](int writer, int owner, std::size_t i) {
    return static_cast<std::uint8_t>(static_cast<std::size_t>(writer) * 50 + static_cast<std::size_t>(owner) * 7 + i);
  };
  const auto part_of = [&](int writer, int owner) {
    std::vector<std::uint8_t> part(kPart);
    for (std::size_t i = 0; i < kPart; ++i) part[i] = byte_of(writer, owner, i);
    return part;
  };
  const std::size_t own_offset = kPart * static_cast<std::size_t>(window.rank());
  for (int owner = 0; owner < num_ranks; ++owner) window.put(owner, own_offset, part_of(window.rank(), owner).data(), kPart);
  window.quiet();
  group.barrier();
  for (int owner = 0; owner < num_ranks; ++owner) {
    for (int writer = 0; writer < num_ranks; ++writer) {
      std::vector<std::uint8_t> part(kPart);
      window.get(owner, kPart * static_cast<std::size_t>(writer), part.data(), kPart);
      EXPECT_EQ(part, part_of(writer, owner));
    }
  }
}

// Rank 0 puts a message of 8 words and signals; rank 1 waits, reads and answers. Needs 128 bytes.
inline void exercise_message_passing(const Window& window, std::uint64_t num_rounds) {
  constexpr std::size_t kFlag = 64, kAnswer = 72;
  for (std::uint64_t round = 1; round <= num_rounds; ++round) {
    std::uint64_t words[8];
    if (window.rank() == 0) {
      for (std::uint64_t& word : words) word = round * 8 + static_cast<std::uint64_t>(&word - words);
      window.put(1, 0, words, 32);
      window.put(1, 32, words + 4, 32);
      window.signal(1, kFlag, round);
      window.wait(kAnswer, Compare::kEqual, round);
    } else {
      window.wait(kFlag, Compare::kEqual, round);
      window.get(1, 0, words, sizeof(words));
      for (const std::uint64_t& word : words) ASSERT_EQ(word, round * 8 + static_cast<std::uint64_t>(&word - words));
      window.signal(0, kAnswer, round);
    }
  }
}

// A token that counts its hops goes round; what it passes on was learned from the rank before. Needs 16 bytes.
inline void exercise_ring(const Window& window, std::uint64_t num_rounds) {
  const auto num_ranks = static_cast<std::uint64_t>(window.num_ranks());
  const auto rank = static_cast<std::uint64_t>(window.rank());
  const int next = (window.rank() + 1) % window.num_ranks();
  for (std::uint64_t round = 0; round < num_rounds; ++round) {
    const std::uint64_t num_hops = round * num_ranks + rank;
    if (num_hops > 0) window.wait(0, Compare::kGreaterEqual, num_hops);
    std::uint64_t carried = 0;
    window.get(window.rank(), 8, &carried, sizeof(carried));
    EXPECT_EQ(carried, num_hops == 0 ? 0 : num_hops * 3);
    carried = (num_hops + 1) * 3;
    if (round + 1 == num_rounds && rank + 1 == num_ranks) return;
    window.put(next, 8, &carried, sizeof(carried));
    window.signal(next, 0, num_hops + 1);
  }
}

// All ranks add to one word of each rank. Needs 16 bytes.
inline void exercise_additions(const Group& group, const Window& window, std::uint64_t num_additions) {
  const auto num_ranks = static_cast<std::uint64_t>(window.num_ranks());
  for (std::uint64_t i = 0; i < num_additions; ++i) {
    for (int owner = 0; owner < window.num_ranks(); ++owner) window.atomic_add(owner, 8, i % 3);
  }
  group.barrier();
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < num_additions; ++i) sum += i % 3;
  EXPECT_EQ(window.load(8), sum * num_ranks);
}

}  // namespace tokenyard::test
