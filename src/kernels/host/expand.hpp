// Copies received rows into an expert layout: once per local expert that the token chose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tokenyard::host {

struct ExpandArgs {
  std::int64_t num_rows;
  int top_k;
  const std::int64_t* expanded_row;  // [N, k]
  // One lane: dense rows of row_bytes on both sides.
  std::size_t row_bytes;
  const std::byte* received;
  std::byte* expanded;
};
void expand(const ExpandArgs& args);

// Zeroes the alignment gaps behind the groups: experts may compute on them.
struct ZeroGapsArgs {
  int num_local_experts;
  const std::int64_t* expert_counts;
  const std::int64_t* expert_offsets;
  std::size_t row_bytes;
  std::byte* expanded;
};
void zero_gaps(const ZeroGapsArgs& args);

}  // namespace tokenyard::host
