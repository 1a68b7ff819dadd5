// What a launch that waits for copies is owed, until these have been enqueued.
#pragma once

#include <functional>
#include <utility>

namespace tokenyard {

class OwedCopies {
 public:
  OwedCopies() = default;  // nothing
  // `refuse` tells the launch that there will be no copies; it must not throw. Called if an exception keeps them away.
  explicit OwedCopies(std::function<void()> refuse) : refuse_(std::move(refuse)) {}
  OwedCopies(OwedCopies&& other) noexcept : refuse_(std::exchange(other.refuse_, nullptr)) {}
  OwedCopies& operator=(OwedCopies&& other) noexcept {
    std::swap(refuse_, other.refuse_);
    return *this;
  }
  ~OwedCopies() {
    if (refuse_) refuse_();
  }

  explicit operator bool() const { return refuse_ != nullptr; }
  // The launch has been told by the copies' stream, or will be.
  void settle() { refuse_ = nullptr; }

 private:
  std::function<void()> refuse_;
};

}  // namespace tokenyard
