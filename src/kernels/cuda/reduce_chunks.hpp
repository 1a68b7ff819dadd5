// `reduce` where copy engines carry contributions: tokens are summed as the chunks of these come.
#pragma once

#include <cstdint>

#include "kernels/cuda/copy_word.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/reduce.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory.
struct ReduceChunksArgs {
  // Not as_float8; with signals, and with carried_rows. Ranks that carry nothing are read as by reduce, and then awaited before
  // this rank posts at the exit.
  ReduceArgs reduce{};
  // [num_chunks + 1], of `chunk_tokens`: tokens below begin[c] can be summed when chunks 0 to c - 1 are there.
  const std::int32_t* begin = nullptr;
  int num_chunks = 0;
  // [num_chunks, R]: of each chunk, and each rank that carries its rows, the signal word of the turn in which it has come;
  // behind those of the chunks before.
  const std::uint64_t* arrivals = nullptr;
  CopyWord copies{};  // this rank's own
};

// Stream-ordered. Whatever has failed, it does not end before this rank's copies do.
void reduce_chunks(const ReduceChunksArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
