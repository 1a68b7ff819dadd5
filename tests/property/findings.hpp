// What was found wrong, gathered from all ranks, so that a rank with a wrong row goes on and the others need not wait for it.
#pragma once

#include <fmt/core.h>

#include <mutex>
#include <string>
#include <utility>

namespace tokenyard::test {

class Findings {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    add_text(fmt::format(format, std::forward<Args>(args)...));
  }

  bool empty() const {
    const std::lock_guard lock(mutex_);
    return num_found_ == 0;
  }

  // The first few, a line each.
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return num_found_ <= kNumKept ? text_ : text_ + fmt::format("... and {} more\n", num_found_ - kNumKept);
  }

 private:
  static constexpr int kNumKept = 12;

  void add_text(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (num_found_++ < kNumKept) text_ += text + "\n";
  }

  mutable std::mutex mutex_;
  int num_found_ = 0;
  std::string text_;
};

}  // namespace tokenyard::test
