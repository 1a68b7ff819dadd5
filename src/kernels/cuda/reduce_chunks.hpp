// `reduce` where copy engines bring the contributions of other ranks: tokens are summed as the chunks of these come.
#pragma once

#include <cstdint>

#include "kernels/cuda/copy_words.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/reduce.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory.
struct ReduceChunksArgs {
  // Not as_float8. `staged_rows` is where the chunks come. The handshake's entry must have been made.
  ReduceArgs reduce{};
  // [num_words + 1], of `chunk_tokens`: tokens below begin[c] can be summed when chunks 0 to c - 1 are there.
  const std::int32_t* begin = nullptr;
  CopyWords copies{};  // a word per chunk, which comes behind those of the chunks before
};

// Stream-ordered. It ends when all chunks are there, also where something has failed.
void reduce_chunks(const ReduceChunksArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
