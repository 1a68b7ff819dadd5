// The rows that one rank sends to another stand in one piece: there, and where they are packed to be sent in one piece.
#pragma once

#include <cstdint>

namespace tokenyard {

struct SentBlock {
  std::int64_t first_row;  // at the destination
  std::int64_t num_rows;
  std::int64_t staged_row;  // the first, in the order of destinations, where this rank's own block is left out
};

}  // namespace tokenyard
