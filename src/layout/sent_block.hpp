// The rows that one rank sends to another stand in one piece: there, and where they are packed to be sent in one piece.
#pragma once

#include <cstdint>

namespace tokenyard {

struct SentBlock {
  std::int64_t first_row;  // at the destination
  std::int64_t num_rows;
  std::int64_t staged_row;  // the first, in the order of destinations, where this rank's own block is left out
};

// Where blocks are cut into chunks that need not be equal. All blocks of a call are cut alike.
struct Chunks {
  static constexpr int kMaxChunks = 8;
  static constexpr int kNumParts = 64;

  int num_chunks = 1;
  int ends[kMaxChunks] = {kNumParts};  // a chunk ends behind so many of kNumParts equal parts of its block; the last behind all

  constexpr std::int64_t end(int chunk, std::int64_t num_rows) const { return num_rows * ends[chunk] / kNumParts; }
  constexpr std::int64_t begin(int chunk, std::int64_t num_rows) const { return chunk == 0 ? 0 : end(chunk - 1, num_rows); }
  // Of row `row` of a block that has it.
  constexpr int chunk_of(std::int64_t row, std::int64_t num_rows) const {
    int chunk = 0;
    while (chunk + 1 < num_chunks && row >= end(chunk, num_rows)) ++chunk;
    return chunk;
  }
};

}  // namespace tokenyard
