// Which tokens have rows in which chunks of the blocks that a rank exchanges with the others.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory; the Routing as for `reduce`.
struct ChunkTokensArgs {
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  int rank = 0;
  const std::int32_t* fan_out = nullptr;
  const std::int32_t* destination = nullptr;
  const std::int64_t* row = nullptr;
  const SentBlock* sent = nullptr;  // [R]
  Chunks chunks{};
  // [num_chunks + 1], ascending from 0 to num_tokens. Rows of tokens below begin[c] all lie in chunks 0 to c - 1.
  std::int32_t* begin = nullptr;
};

// One block, whatever launch.num_sms says. Stream-ordered.
void chunk_tokens(const ChunkTokensArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
