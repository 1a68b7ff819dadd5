// How a thread passes the time between two looks at a word that a peer will write.
//
// Spinning is fastest while every rank has a core of its own and ruinous otherwise, so the style is chosen per group. Either
// style ends in short naps: a rank that waits for seconds should not hold a core.
#pragma once

#include <sched.h>
#include <time.h>

#include <chrono>
#include <cstdint>

namespace tokenyard {

enum class WaitStyle : std::uint8_t { kSpin, kYield };

class Backoff {
 public:
  explicit Backoff(WaitStyle style) : style_(style) {}

  // Returns true about once a millisecond: time for checks that are dearer than a load. Goes by the clock, since where others
  // compete for the core a single yield may take as long.
  bool pause() {
    if (style_ == WaitStyle::kSpin && num_spins_ < kSpins) {
      relax();
      return ++num_spins_ % kSpinsPerCheck == 0;
    }
    const Clock::time_point now = Clock::now();
    if (begin_ == Clock::time_point{}) begin_ = last_check_ = now;
    if (now - begin_ < kYieldTime) {
      sched_yield();
    } else {
      const timespec nap{0, kNapNanoseconds};
      nanosleep(&nap, nullptr);
    }
    if (now - last_check_ < kCheckInterval) return false;
    last_check_ = now;
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::uint32_t kSpins = 200'000;  // some milliseconds
  static constexpr std::uint32_t kSpinsPerCheck = 16'384;
  static constexpr std::chrono::milliseconds kYieldTime{20};
  static constexpr std::chrono::milliseconds kCheckInterval{1};
  static constexpr long kNapNanoseconds = 50'000;

  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  WaitStyle style_;
  std::uint32_t num_spins_ = 0;
  Clock::time_point begin_{};  // of yielding
  Clock::time_point last_check_{};
};

}  // namespace tokenyard
