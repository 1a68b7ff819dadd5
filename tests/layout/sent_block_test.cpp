#include "layout/sent_block.hpp"

#include <gtest/gtest.h>

namespace tokenyard {
namespace {

constexpr Chunks kChunks{.num_chunks = 4, .ends = {4, 12, 28, 64}};

TEST(chunks, every_row_of_a_block_lies_in_one_chunk) {
  for (std::int64_t num_rows = 0; num_rows < 200; ++num_rows) {
    std::int64_t row = 0;
    for (int chunk = 0; chunk < kChunks.num_chunks; ++chunk) {
      EXPECT_EQ(kChunks.begin(chunk, num_rows), row);
      for (; row < kChunks.end(chunk, num_rows); ++row) EXPECT_EQ(kChunks.chunk_of(row, num_rows), chunk) << num_rows;
    }
    EXPECT_EQ(row, num_rows);
  }
}

TEST(chunks, the_last_chunk_is_the_last_to_be_empty) {
  EXPECT_EQ(kChunks.end(0, 1), 0);
  EXPECT_EQ(kChunks.begin(3, 1), 0);
  EXPECT_EQ(kChunks.end(3, 1), 1);
  EXPECT_EQ(kChunks.end(0, 4096), 256);
  EXPECT_EQ(Chunks{}.end(0, 5), 5);
}

}  // namespace
}  // namespace tokenyard
