// A ring in shared memory, of a warp's own, through which pieces of rows stream to the warp that adds them. Lanes load what
// they will add themselves, so no lane waits for another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sum.cuh"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

inline constexpr int kPieceBytes = 4 * 32 * 16;  // of a row: four vectors per lane
inline constexpr int kNumAtOnce = 2;             // rows that are loaded, and then added, together

constexpr int ring_bytes(int num_slots) { return num_slots * kNumAtOnce * kPieceBytes; }

// The lane of the lowest bit of `rest`; takes the bit out.
__device__ inline int take_lane(unsigned* rest) {
  const int lane = max(__ffs(static_cast<int>(*rest)) - 1, 0);
  *rest &= *rest - 1;
  return lane;
}

// The address that another lane holds.
__device__ inline const std::byte* address_of_lane(const std::byte* address, int lane) {
  return reinterpret_cast<const std::byte*>(__shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(address), lane));
}

// Calls add(i, j, bits) for the lane's vector i of each piece j in a slot. Instructions are the limit where rows come from
// memory of the GPU: most pieces are whole, and need fewer.
template <DataType kType, class Add>
__device__ void add_pieces(const std::byte* pieces, int num_pieces, int num_bytes, int lane, Add&& add) {
  using Sum = WarpSum<kType>;
  if (num_bytes == kPieceBytes) {
    const std::byte* vectors = pieces + Sum::offset(0, lane);
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      if (j >= num_pieces) break;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        add(i, j, *reinterpret_cast<const uint4*>(vectors + j * kPieceBytes + Sum::offset(i, 0)));
      }
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < kNumAtOnce; ++j) {
    if (j >= num_pieces) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int offset = Sum::offset(i, lane);
      if (offset < num_bytes) add(i, j, *reinterpret_cast<const uint4*>(pieces + j * kPieceBytes + offset));
    }
  }
}

}  // namespace tokenyard::cuda
