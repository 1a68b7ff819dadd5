// A ring in shared memory, of a warp's own, through which pieces of rows stream to the warp that adds them, far ahead of the
// sums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sum.cuh"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

inline constexpr int kPieceBytes = 4 * 32 * 16;  // of a row: four vectors per lane
inline constexpr int kNumAtOnce = 2;             // rows that are loaded, and then added, together: a slot of the ring

inline constexpr int kSlotBytes = kNumAtOnce * kPieceBytes;

// Slots, and behind them a barrier each. A multiple of 128 bytes, since bulk loads to other addresses take longer.
constexpr int ring_bytes(int num_slots) { return num_slots * kSlotBytes + 128; }

// How a row divides into pieces.
struct RowPieces {
  int num;
  int last_bytes;

  __device__ int bytes_of(int piece) const { return piece + 1 == num ? last_bytes : kPieceBytes; }
};

inline RowPieces pieces_of_row(std::int64_t row_bytes) {
  const auto num = static_cast<int>((row_bytes + kPieceBytes - 1) / kPieceBytes);
  return {.num = num, .last_bytes = static_cast<int>(row_bytes - (num - 1) * std::int64_t{kPieceBytes})};
}

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

// A place in a ring and whether its turn is an odd one, in one number: registers are scarce where it is used.
template <int kNumSlots>
class RingPlace {
 public:
  __device__ int idx() const {
    if constexpr (kIsPowerOf2) return static_cast<int>(number_ % kNumSlots);
    return static_cast<int>(number_ < kNumSlots ? number_ : number_ - kNumSlots);
  }
  __device__ std::uint32_t parity() const { return number_ / kNumSlots % 2; }
  __device__ RingPlace ahead(int num_slots) const {
    RingPlace place;
    place.number_ = number_ + num_slots;
    if (!kIsPowerOf2 && place.number_ >= 2 * kNumSlots) place.number_ -= 2 * kNumSlots;
    return place;
  }

 private:
  static constexpr bool kIsPowerOf2 = (kNumSlots & (kNumSlots - 1)) == 0;
  std::uint32_t number_ = 0;
};

// What rings of both kinds are: a warp's share of shared memory, aligned to 128 bytes. Both are constructed alike.
template <int kNumRingSlots>
class RingMemory {
 public:
  static constexpr int kNumSlots = kNumRingSlots;
  using Place = RingPlace<kNumSlots>;

  __device__ explicit RingMemory(std::byte* memory) : memory_(memory) {}

  __device__ std::byte* pieces(const Place& place) const { return memory_ + place.idx() * kSlotBytes; }

 protected:
  std::byte* memory_;
};

// Rows that peers have stored may be loaded in bulk when this GPU has acquired them, and has called this: best before there are
// loads, since it waits for those that are under way. Rows of kernels before this one need neither.
__device__ inline void let_load_in_bulk() {
#if __CUDA_ARCH__ >= 900
  ptx::fence_bulk();
#endif
}

// A ring into which lanes load what they will add themselves, so that none waits for another.
template <DataType kType, int kNumRingSlots>
class LaneRing : public RingMemory<kNumRingSlots> {
 public:
  using typename RingMemory<kNumRingSlots>::Place;

  // Rows that are not aligned to 16 bytes come without haste.
  __device__ LaneRing(std::byte* memory, bool rows_are_aligned, int)
      : RingMemory<kNumRingSlots>(memory), rows_are_aligned_(rows_are_aligned) {}

  // By all lanes: pieces of up to kNumAtOnce rows, each of which begins at `row` of a lane in `holders`. Takes these lanes out.
  __device__ void load(const Place& place, unsigned* holders, const std::byte* row, std::int64_t first, int num_bytes,
                       int lane) {
    std::byte* pieces = this->pieces(place);
    const int num_rows = min(__popc(*holders), kNumAtOnce);
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      if (j >= num_rows) break;
      const std::byte* source = address_of_lane(row, take_lane(holders)) + first;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int offset = WarpSum<kType>::offset(i, lane);
        if (offset >= num_bytes) continue;
        std::byte* target = pieces + j * kPieceBytes + offset;
        if (rows_are_aligned_) {
          ptx::async_load_row(target, source + offset);
        } else {
          *reinterpret_cast<uint4*>(target) = load_elements<kType>(source + offset);
        }
      }
    }
    ptx::async_commit();
  }

  // By all lanes: until the pieces at `place` are there, the first of so many that are under way.
  __device__ void await(const Place&, int num_under_way) const {
    if (num_under_way == kNumRingSlots) {
      ptx::async_wait<kNumRingSlots - 1>();
    } else {
      ptx::async_wait<0>();
    }
  }

 private:
  bool rows_are_aligned_;
};

#if __CUDA_ARCH__ >= 900

// The same by bulk loads, of rows that are aligned to 16 bytes.
template <int kNumRingSlots>
class BulkRing : public RingMemory<kNumRingSlots> {
 public:
  using typename RingMemory<kNumRingSlots>::Place;

  __device__ BulkRing(std::byte* memory, bool, int lane) : RingMemory<kNumRingSlots>(memory) {
    if (lane < kNumRingSlots) ptx::barrier_init(barrier(lane), 1);
    ptx::barrier_init_fence();
    __syncwarp();
  }

  __device__ void load(const Place& place, unsigned* holders, const std::byte* row, std::int64_t first, int num_bytes,
                       int lane) {
    static_assert(kNumAtOnce == 2);
    const unsigned rest = *holders & (*holders - 1);
    const bool is_first = lane == __ffs(static_cast<int>(*holders)) - 1;
    const bool is_second = lane == __ffs(static_cast<int>(rest)) - 1;
    if (lane == 0) {
      const int num_rows = (*holders != 0 ? 1 : 0) + (rest != 0 ? 1 : 0);
      ptx::barrier_arrive_expecting(barrier(place.idx()), num_rows * num_bytes);
    }
    if (is_first || is_second) {
      ptx::bulk_load(this->pieces(place) + (is_second ? kPieceBytes : 0), row + first, num_bytes, barrier(place.idx()));
    }
    *holders = rest & (rest - 1);
  }

  __device__ void await(const Place& place, int) const {
    while (!ptx::barrier_is_past(barrier(place.idx()), place.parity())) {
    }
  }

 private:
  __device__ ptx::Barrier* barrier(int idx) const {
    return reinterpret_cast<ptx::Barrier*>(this->memory_ + kNumRingSlots * kSlotBytes) + idx;
  }
};

template <DataType kType, int kNumSlots, bool kInBulk>
using RingOf = std::conditional_t<kInBulk, BulkRing<kNumSlots>, LaneRing<kType, kNumSlots>>;

#else

// Before Hopper lanes load, whatever is asked for.
template <DataType kType, int kNumSlots, bool kInBulk>
using RingOf = LaneRing<kType, kNumSlots>;

#endif

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

// By a warp: sums of rows, piece by piece, as `sums` says:
//   is_there()                    whether it is at a piece, or there are no more
//   piece(), piece_bytes()        which of the row it is, and its size
//   contributors()                lanes that hold a row of the sum
//   contribution()                where this lane's begins
//   describe(slot, num_bytes, taken, is_last, lane)
//                                 rows of the lanes `taken` are being loaded, the last of this piece or not: what the slot
//                                 holds
//   advance(lane)                 goes on to the next piece
//   add(sum, slot, pieces, lane)  adds what has been loaded
//   store(sum, slot, lane)        stores the sum of a piece
// A sum without rows has one slot all the same. `slots`, beside those of the ring, are shared memory of the warp's own.
template <DataType kType, class Ring, class Sums>
__device__ void stream_sums(Ring& ring, Sums& sums, typename Sums::Slot* slots, int lane) {
  WarpSum<kType> sum;
  sum.clear();
  unsigned to_load = sums.contributors();
  int num_under_way = 0;
  for (typename Ring::Place place;; place = place.ahead(1)) {
#pragma unroll 1
    for (; sums.is_there() && num_under_way < Ring::kNumSlots; ++num_under_way) {
      const typename Ring::Place free_place = place.ahead(num_under_way);
      const unsigned before = to_load;
      const int num_bytes = sums.piece_bytes();
      const std::int64_t first = static_cast<std::int64_t>(sums.piece()) * kPieceBytes;
      ring.load(free_place, &to_load, sums.contribution(), first, num_bytes, lane);
      sums.describe(&slots[free_place.idx()], num_bytes, before & ~to_load, to_load == 0, lane);
      if (to_load != 0) continue;
      sums.advance(lane);
      to_load = sums.contributors();
    }
    if (num_under_way == 0) break;
    __syncwarp();
    ring.await(place, num_under_way);
    const typename Sums::Slot slot = slots[place.idx()];
    sums.add(sum, slot, ring.pieces(place), lane);
    __syncwarp();  // all have read the slot before it is filled again
    --num_under_way;
    if (!slot.is_last) continue;
    sums.store(sum, slot, lane);
    sum.clear();
  }
}

}  // namespace tokenyard::cuda
