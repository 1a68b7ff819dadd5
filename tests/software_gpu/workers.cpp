#include "tests/software_gpu/workers.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace software_gpu {
namespace {

class Workers {
 public:
  void run(std::function<void()> work) {
    std::unique_lock lock(mutex_);
    waiting_.push_back(std::move(work));
    if (num_idle_ >= static_cast<int>(waiting_.size())) {
      has_work_.notify_one();
      return;
    }
    std::thread([this] { loop(); }).detach();
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      while (!waiting_.empty()) {
        const std::function<void()> work = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        work();
        lock.lock();
      }
      ++num_idle_;
      has_work_.wait(lock, [this] { return !waiting_.empty(); });
      --num_idle_;
    }
  }

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::deque<std::function<void()>> waiting_;
  int num_idle_ = 0;
};

}  // namespace

void run_apart(std::function<void()> work) {
  static auto* const workers = new Workers;  // never destroyed: threads still use it while the process ends
  workers->run(std::move(work));
}

}  // namespace software_gpu
