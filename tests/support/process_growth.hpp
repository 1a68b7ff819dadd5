// Whether something that a test does over and over makes its process grow.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/process_state.hpp"

namespace tokenyard::test {

// Sanitizers keep memory of their own, and have an allocator that the C library's statistics know nothing of. Counts of other
// things need fewer rounds.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSeesMemory = false;
inline constexpr int kGrowthRounds = 40;
#else
inline constexpr bool kSeesMemory = true;
inline constexpr int kGrowthRounds = 400;
#endif

// One thing that a process can have more and more of: what it had after each round.
struct GrowthSeries {
  const char* what;
  bool is_memory;
  // What the least leak would add in a round.
  std::int64_t least_leak;
  std::vector<std::int64_t> after_round{};
};

// Call sample() after every round, while no other thread of the process allocates, and expect_none() at the end.
//
// The first fifth of the rounds warms up: symbols are resolved, plans and the allocator get what they keep for the next call.
// The rest is halved, and the smallest figure of the later half compared with that of the earlier one. What comes and
// goes, such as a stack that the C library caches, cannot raise a minimum; a leak raises it by what it adds in half the rounds.
//
// The least leak is taken to be the allocator's smallest chunk each time that something is done, or a page, a mapping, a
// descriptor or a thread in every round. Half of what it would add is allowed, because now and then even a program
// without leaks keeps a little more: a vector grows once more, another thread is the first to free something into its cache.
class ProcessGrowth {
 public:
  // `num_times`: how often per round this process does what may leak.
  explicit ProcessGrowth(int num_times) {
    series_[0].least_leak = std::int64_t{kLeastChunk} * num_times;
    for (GrowthSeries& one : series_) one.after_round.reserve(kGrowthRounds);
  }

  void sample() {
    const struct mallinfo2 heap = mallinfo2();
    series_[0].after_round.push_back(static_cast<std::int64_t>(heap.uordblks + heap.hblkhd));
    long num_pages = 0;
    long num_resident = 0;
    std::ifstream("/proc/self/statm") >> num_pages >> num_resident;
    series_[1].after_round.push_back(num_resident * sysconf(_SC_PAGESIZE));
    series_[2].after_round.push_back(count_lines("/proc/self/maps"));
    series_[3].after_round.push_back(count_descriptors());
    series_[4].after_round.push_back(count_threads());
  }

  void expect_none() const {
    constexpr int num_warm_ups = kGrowthRounds / 5;
    constexpr int half = (kGrowthRounds - num_warm_ups) / 2;
    for (const GrowthSeries& one : series_) {
      ASSERT_EQ(one.after_round.size(), std::size_t{kGrowthRounds});
      if (one.is_memory && !kSeesMemory) continue;
      const auto middle = one.after_round.begin() + num_warm_ups + half;
      const std::int64_t earlier = *std::min_element(one.after_round.begin() + num_warm_ups, middle);
      const std::int64_t later = *std::min_element(middle, one.after_round.end());
      EXPECT_LE(later, earlier + half * one.least_leak / 2)
          << one.what << " grow: at least " << earlier << " in the earlier half of " << 2 * half << " rounds, at least "
          << later << " in the later half";
    }
  }

 private:
  static constexpr int kLeastChunk = 32;  // bytes

  static std::int64_t count_lines(const char* path) {
    std::ifstream file(path);
    std::int64_t num_lines = 0;
    for (std::string line; std::getline(file, line);) ++num_lines;
    return num_lines;
  }

  std::vector<GrowthSeries> series_{
      {.what = "bytes that are allocated", .is_memory = true, .least_leak = kLeastChunk},
      {.what = "resident bytes", .is_memory = true, .least_leak = 4096},
      {.what = "memory maps", .is_memory = true, .least_leak = 1},
      {.what = "open descriptors", .is_memory = false, .least_leak = 1},
      {.what = "threads", .is_memory = false, .least_leak = 1},
  };
};

}  // namespace tokenyard::test
