// A kernel that stores a word, to see what kernels reach.
#pragma once

#include <cstdint>

namespace tokenyard::test {

// On the current device; returns when it is done.
void store_word_by_kernel(std::uint64_t* address, std::uint64_t value);

}  // namespace tokenyard::test
