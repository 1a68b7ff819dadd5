// A moment in a stream.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace software_gpu {

class Mark {
 public:
  void set() {
    const std::lock_guard lock(mutex_);
    time_ = std::chrono::steady_clock::now();
    is_set_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_set_; });
  }
  bool is_set() {
    const std::lock_guard lock(mutex_);
    return is_set_;
  }
  std::chrono::steady_clock::time_point time() {
    const std::lock_guard lock(mutex_);
    return time_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
  std::chrono::steady_clock::time_point time_;
};

}  // namespace software_gpu
