// Segments of rows that are announced one by one while a kernel is still sending: see layout/segment.hpp.
#pragma once

#include <cstdint>

namespace tokenyard::cuda {

// Pointers are to device memory.
struct Segments {
  // [R]: every rank's words, u64 [R, max_segments] by writer, where the plan's control windows have them; null: segments are
  // neither announced nor awaited.
  std::uint64_t* const* words = nullptr;
  std::uint32_t* num_done = nullptr;  // [R, max_segments]: what this rank has done of each; zero between launches
  int max_segments = 0;               // of the rows that one rank can send to another
};

}  // namespace tokenyard::cuda
