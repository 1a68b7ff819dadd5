// Shares out one piece of memory to arrays. Run twice over the same sequence: once without memory to learn the size, once with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokenyard {

class Carve {
 public:
  explicit Carve(std::byte* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(std::int64_t num_elements) {
    constexpr std::size_t kAlignment = 256;
    std::byte* first = memory_ == nullptr ? nullptr : memory_ + num_bytes_;
    num_bytes_ += (static_cast<std::size_t>(num_elements) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(first);
  }

  std::size_t num_bytes() const noexcept { return num_bytes_; }

 private:
  std::byte* memory_;
  std::size_t num_bytes_ = 0;
};

}  // namespace tokenyard
