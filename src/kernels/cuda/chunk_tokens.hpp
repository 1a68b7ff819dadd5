// Which tokens can be summed when the first chunks of all blocks of contributions are there.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

inline constexpr int kMaxChunks = 16;

// Pointers are to device memory; the Routing as for `reduce`.
struct ChunkTokensArgs {
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  int rank = 0;
  const std::int32_t* fan_out = nullptr;
  const std::int32_t* destination = nullptr;
  const std::int64_t* row = nullptr;
  const SentBlock* sent = nullptr;  // [R]
  int num_chunks = 1;               // at most kMaxChunks
  // [num_chunks + 1], ascending from 0 to num_tokens: what other ranks contribute to tokens below entry c lies in chunks 0 to
  // c - 1.
  std::int32_t* chunk_tokens = nullptr;
};

// One block. Stream-ordered, capturable.
void chunk_tokens(const ChunkTokensArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
