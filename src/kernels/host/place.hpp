// Second step of a dispatch: from everybody's counts, the rows that this rank writes to and the rows that it will receive.
#pragma once

#include <cstdint>

namespace tokenyard::host {

struct PlaceArgs {
  const std::int32_t* rank_counts;  // [R, R]: row i says how many rows rank i sends to each rank
  int rank;
  int num_ranks;
  std::int64_t capacity;  // rows that a slot holds; rows beyond it are dropped

  // From `count`; positions become rows at the destination, -1 where dropped.
  std::int64_t num_tokens;
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  std::int64_t* row;

  std::int64_t* source_offsets;  // [R + 1]: rows [i, i + 1) of this rank's slot come from rank i
};

void place(const PlaceArgs& args);

// The most rows that any rank is sent.
std::int64_t max_recv_rows(const std::int32_t* rank_counts, int num_ranks);

}  // namespace tokenyard::host
