// Copies by copy engines that a kernel waits for, as it sees them.
#pragma once

#include <cstdint>

namespace tokenyard::cuda {

// Words in device memory that the copies' streams write behind them: each becomes `number`, which is more than stands there.
// Copies that have been enqueued come to an end whatever fails, and so do the words.
struct Copies {
  const std::uint64_t* words = nullptr;
  int num_words = 0;
  std::uint64_t number = 0;
};

}  // namespace tokenyard::cuda
