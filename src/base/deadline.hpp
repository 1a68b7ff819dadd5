// A point in time after which a wait ends.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tokenyard {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  // Timeouts beyond this are as good as none, and would overflow the arithmetic of clocks and of poll().
  static constexpr std::chrono::milliseconds kLongest = std::chrono::hours{24 * 20};

  // A negative timeout is none at all.
  explicit Deadline(std::chrono::milliseconds timeout)
      : start_(Clock::now()), timeout_(std::clamp(timeout, std::chrono::milliseconds{0}, kLongest)) {}

  bool passed() const { return Clock::now() - start_ >= timeout_; }

  std::chrono::milliseconds elapsed() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_);
  }

  // Never negative; rounded up, so that a poll() with it does not return before the deadline.
  std::chrono::milliseconds remaining() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(timeout_ - (Clock::now() - start_));
    return std::max(left, std::chrono::milliseconds{0});
  }

  // Of a wait on a device, whose clock is another one.
  std::uint64_t nanoseconds() const {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(timeout_).count());
  }

  Clock::time_point start() const { return start_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

 private:
  Clock::time_point start_;
  std::chrono::milliseconds timeout_;
};

}  // namespace tokenyard
