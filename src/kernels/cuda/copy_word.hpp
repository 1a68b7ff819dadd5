// How a kernel learns of copies by copy engines that it waits for.
#pragma once

#include <cstdint>

namespace tokenyard::cuda {

// A word in device memory that is written behind the copies: it becomes `number`, which is more than stands there, or
// kNoCopies. One of the two comes in any case, since copies that have been enqueued come to an end whatever fails.
struct CopyWord {
  const std::uint64_t* word = nullptr;
  std::uint64_t number = 0;
};

// Instead of a number: the copies have not all been enqueued, and the group has failed.
inline constexpr std::uint64_t kNoCopies = ~std::uint64_t{0};

}  // namespace tokenyard::cuda
