// Where the threads of a test meet, other than through what is tested.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "tests/support/ample_time.hpp"

namespace tokenyard::test {

class MeetingPoint {
 public:
  explicit MeetingPoint(int num_threads) : num_threads_(num_threads) {}

  void meet() {
    std::unique_lock lock(mutex_);
    const int round = round_;
    if (++num_arrived_ == num_threads_) {
      num_arrived_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      // A thread may have ended early, by an expectation that failed.
      const bool met = changed_.wait_for(lock, 2 * ample_time(), [&] { return round_ != round; });
      if (!met) throw std::runtime_error("not all threads of the test came");
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int num_threads_;
  int num_arrived_ = 0;
  int round_ = 0;
};

}  // namespace tokenyard::test
