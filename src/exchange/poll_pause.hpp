// How long to sleep between two looks at something that cannot wake anybody.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/deadline.hpp"

namespace tokenyard {

// Doubles from look to look, so that a short wait ends soon and a long one costs little.
class PollPause {
 public:
  void sleep(const Deadline& deadline) {
    std::this_thread::sleep_for(std::min<std::chrono::microseconds>(pause_, deadline.remaining()));
    pause_ = std::min(2 * pause_, kLongest);
  }

  // Something has happened: more may follow soon.
  void shorten() { pause_ = kShortest; }

 private:
  static constexpr std::chrono::microseconds kShortest{100};
  static constexpr std::chrono::microseconds kLongest{20'000};

  std::chrono::microseconds pause_ = kShortest;
};

}  // namespace tokenyard
