// How a thread passes the time between two looks at a word that a peer will write.
//
// Spinning is fastest while every rank has a core of its own and ruinous otherwise, so the style is chosen per group. Either
// style ends in short naps: a rank that waits for seconds should not hold a core.
#pragma once

#include <sched.h>
#include <time.h>

#include <cstdint>

namespace tokenyard {

enum class WaitStyle : std::uint8_t { kSpin, kYield };

class Backoff {
 public:
  explicit Backoff(WaitStyle style) : style_(style) {}

  // Returns true about once a millisecond at most: time for checks that are dearer than a load.
  bool pause() {
    ++num_pauses_;
    if (style_ == WaitStyle::kSpin && num_pauses_ < kSpins) {
      relax();
      return num_pauses_ % kSpinsPerCheck == 0;
    }
    if (num_pauses_ < kSpins + kYields) {
      sched_yield();
      return num_pauses_ % kYieldsPerCheck == 0;
    }
    const timespec nap{0, kNapNanoseconds};
    nanosleep(&nap, nullptr);
    return num_pauses_ % kNapsPerCheck == 0;
  }

 private:
  static constexpr std::uint64_t kSpins = 200'000;  // some milliseconds
  static constexpr std::uint64_t kSpinsPerCheck = 16'384;
  static constexpr std::uint64_t kYields = 20'000;
  static constexpr std::uint64_t kYieldsPerCheck = 512;
  static constexpr long kNapNanoseconds = 50'000;
  static constexpr std::uint64_t kNapsPerCheck = 8;

  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  WaitStyle style_;
  std::uint64_t num_pauses_ = 0;
};

}  // namespace tokenyard
