// What this rank contributes to a token: the sum of the row's copies here, which stream through a ring, stored at the token's
// home; or the row itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/ring.cuh"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/sum.cuh"

namespace tokenyard::cuda {

struct FoldKernel {
  std::int64_t row_bytes;
  bool as_float8;
  std::int64_t returned_row_bytes;
  int num_ranks;
  const std::int64_t* source_offsets;
  const std::int32_t* source_token;
  const std::int32_t* ordinal;
  int max_fan_out;
  int top_k;
  const std::int64_t* expanded_row;
  const std::byte* rows;
  bool rows_are_aligned;  // to 16 bytes
  const float* factors;
  int skip_source;
  const float* carried_weights;
  const std::int32_t* topk_idx;
  std::size_t rows_target;
  std::size_t weights_target;
  std::byte* const* windows;
  Handshake handshake;
  LaunchState* state;
};

// The rank that row `row` came from: the last whose rows begin at it or before.
__device__ inline int source_of(const FoldKernel& kernel, std::int64_t row) {
  int source = 0;
  int end = kernel.num_ranks;
  while (end - source > 1) {
    const int middle = (source + end) / 2;
    if (kernel.source_offsets[middle] <= row) {
      source = middle;
    } else {
      end = middle;
    }
  }
  return source;
}

// Lane k returns the weight of the row's id k. `place` is the lane's row in the layout.
__device__ inline void return_weight(const FoldKernel& kernel, std::int64_t row, std::int64_t place, std::byte* window,
                                     int lane) {
  if (lane >= kernel.top_k) return;
  const std::int64_t pair = row * kernel.top_k + lane;
  if (kernel.topk_idx[pair] < 0) return;
  float weight = 0.0F;
  if (kernel.expanded_row == nullptr) {
    weight = kernel.carried_weights[pair];
  } else if (place >= 0) {
    weight = kernel.carried_weights[place];
  }
  auto* weights = reinterpret_cast<float*>(window + kernel.weights_target);
  weights[static_cast<std::int64_t>(kernel.source_token[row]) * kernel.top_k + lane] = weight;
}

// Stores a warp's sums as FP8 values and, behind the row's, their scales. A block's values lie in one vector of as many lanes
// as it takes, since pieces of a row begin with a block.
template <DataType kType>
__device__ void store_as_float8(const FoldKernel& kernel, const WarpSum<kType>& sum, std::int64_t first, std::byte* target,
                                int lane) {
  constexpr int kElementBytes = static_cast<int>(size_of(kType));
  constexpr int kNumElements = Vector<kType>::kNumElements;
  constexpr int kNumLanes = static_cast<int>(kScaleBlock) / kNumElements;
  const std::int64_t num_elements = kernel.row_bytes / kElementBytes;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Of elements behind the row's last the sums are 0.
    const BlockScale scale(amax_of_block<kNumLanes>(sum.numbers[i]), ScaleFormat::kFloat32);
    const std::int64_t element = (first + WarpSum<kType>::offset(i, lane)) / kElementBytes;
    if (element >= num_elements) continue;
    if constexpr (kNumElements == 8) {
      *reinterpret_cast<uint2*>(target + element) = {scale.encode(sum.numbers[i]), scale.encode(sum.numbers[i] + 4)};
    } else {
      *reinterpret_cast<std::uint32_t*>(target + element) = scale.encode(sum.numbers[i]);
    }
    if (lane % kNumLanes == 0) reinterpret_cast<float*>(target + num_elements)[element / kScaleBlock] = scale.scale;
  }
}

// A received row as the lanes of a warp hold it: lane k the place of term k in the layout, or -1.
struct ReceivedRow {
  std::int64_t row = 0;
  int source = 0;
  std::int64_t place = -1;
  std::int32_t token = 0;  // at its home
  std::int32_t ordinal = 0;
};

__device__ inline ReceivedRow load_received(const FoldKernel& kernel, std::int64_t row, int source, int lane) {
  ReceivedRow received{.row = row, .source = source, .token = kernel.source_token[row], .ordinal = kernel.ordinal[row]};
  if (kernel.expanded_row != nullptr) {
    if (lane < kernel.top_k) received.place = kernel.expanded_row[row * kernel.top_k + lane];
  } else if (lane == 0) {
    received.place = row;
  }
  return received;
}

// Where the row's contribution goes, in a window that there is.
__device__ inline std::byte* home_of(const FoldKernel& kernel, const ReceivedRow& received, std::byte* window) {
  const std::int64_t home = static_cast<std::int64_t>(received.token) * kernel.max_fan_out + received.ordinal;
  return window + kernel.rows_target + home * kernel.returned_row_bytes;
}

// Whether contributions to tokens of `source` are sent, and do not stay where they are.
__device__ inline bool sends_rows(const FoldKernel& kernel, int source) {
  return kernel.rows != nullptr && source != kernel.skip_source;
}

// Sends the weights that are carried home with the row, where weights are. Whether its contribution is to be sent.
__device__ inline bool begin_row(const FoldKernel& kernel, const ReceivedRow& received, std::byte* window, int lane) {
  if (kernel.carried_weights != nullptr) return_weight(kernel, received.row, received.place, window, lane);
  return sends_rows(kernel, received.source);
}

// Whether contributions are rows as they are, NaNs and all.
__host__ __device__ inline bool is_copied(const FoldKernel& kernel) {
  return kernel.expanded_row == nullptr && kernel.factors == nullptr && !kernel.as_float8;
}

// One received row whose contribution is a copy, by a warp.
template <DataType kType>
__device__ void copy_home(const FoldKernel& kernel, std::int64_t row, int source, int lane) {
  std::byte* window = kernel.windows[source];
  if (window == nullptr) return;
  const ReceivedRow received = load_received(kernel, row, source, lane);
  if (!begin_row(kernel, received, window, lane)) return;
  std::byte* target = home_of(kernel, received, window);
  const std::byte* source_row = kernel.rows + row * kernel.row_bytes;
  if (kernel.rows_are_aligned) {
    copy_row(target, source_row, kernel.row_bytes, lane);
  } else {
    constexpr int kElementBytes = static_cast<int>(size_of(kType));
    copy_elements(target, source_row, kElementBytes, kElementBytes, kernel.row_bytes / kElementBytes, lane);
  }
}

// The row that a warp folds: lane k holds term k.
struct FoldedRow {
  bool is_there = false;
  const std::byte* contribution = nullptr;
  unsigned contributors = 0;  // lanes that have one
  float factor = 1.0F;
  std::byte* target = nullptr;

  __device__ void enter(const FoldKernel& kernel, const ReceivedRow& received, std::byte* window) {
    is_there = true;
    const bool has_term = received.place >= 0;
    contribution = has_term ? kernel.rows + received.place * kernel.row_bytes : nullptr;
    contributors = __ballot_sync(kAllLanes, has_term);
    if (kernel.factors != nullptr) factor = has_term ? kernel.factors[received.place] : 1.0F;
    target = home_of(kernel, received, window);
  }
};

// What a slot of the ring holds: up to kNumAtOnce terms of a piece; none where a row has none.
template <class Mark>
struct alignas(16) FoldSlot {
  std::byte* target;  // of the row
  float factors[kNumAtOnce];
  std::int32_t piece;
  std::int16_t num_terms;
  bool is_last;  // of its piece
  bool is_end;   // of what `mark` stands for
  Mark mark;
};

template <DataType kType>
__device__ void store_folded(const FoldKernel& kernel, const WarpSum<kType>& sum, std::int64_t first, std::byte* target,
                             int lane) {
  if constexpr (kType != DataType::kFloat64) {
    if (kernel.as_float8) return store_as_float8<kType>(kernel, sum, first, target, lane);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::int64_t offset = first + WarpSum<kType>::offset(i, lane);
    if (offset < kernel.row_bytes) ptx::store_row(target + offset, Vector<kType>::encode(sum.numbers[i]));
  }
}

// By a warp: sums of a row's terms, piece by piece, stored at the tokens' homes. `rows` is a FoldedRow that advance() makes the
// next one, of which is_end says whether it is the last one that `mark` stands for; end(mark) comes when that has been stored.
template <DataType kType, int kNumSlots, class Rows>
__device__ void fold_rows(const FoldKernel& kernel, Rows& rows, FoldSlot<typename Rows::Mark>* slots, std::byte* ring,
                          int lane) {
  using Sum = WarpSum<kType>;
  const auto num_pieces = static_cast<int>((kernel.row_bytes + kPieceBytes - 1) / kPieceBytes);
  const auto bytes_of = [&](int piece) {
    return static_cast<int>(min(kernel.row_bytes - static_cast<std::int64_t>(piece) * kPieceBytes, std::int64_t{kPieceBytes}));
  };
  Sum sum;
  sum.clear();
  int piece = 0;
  unsigned to_load = rows.contributors;
  int num_under_way = 0;
  int load_place = 0;
  for (int sum_place = 0;; sum_place = (sum_place + 1) % kNumSlots) {
#pragma unroll 1
    for (; rows.is_there && num_under_way < kNumSlots; ++num_under_way) {
      const int num_bytes = bytes_of(piece);
      const int num_terms = min(__popc(to_load), kNumAtOnce);
#pragma unroll
      for (int j = 0; j < kNumAtOnce; ++j) {
        if (j >= num_terms) break;
        const int term = take_lane(&to_load);
        if (lane == term) slots[load_place].factors[j] = rows.factor;
        const std::byte* row = address_of_lane(rows.contribution, term) + static_cast<std::int64_t>(piece) * kPieceBytes;
        std::byte* stage = ring + (load_place * kNumAtOnce + j) * kPieceBytes;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int offset = Sum::offset(i, lane);
          if (offset >= num_bytes) continue;
          if (kernel.rows_are_aligned) {
            ptx::async_load_row(stage + offset, row + offset);
          } else {
            *reinterpret_cast<uint4*>(stage + offset) = load_elements<kType>(row + offset);
          }
        }
      }
      ptx::async_commit();
      if (lane == 0) {
        auto& slot = slots[load_place];
        slot.target = rows.target;
        slot.piece = piece;
        slot.num_terms = static_cast<std::int16_t>(num_terms);
        slot.is_last = to_load == 0;
        slot.is_end = to_load == 0 && piece + 1 == num_pieces && rows.is_end;
        slot.mark = rows.mark;
      }
      load_place = (load_place + 1) % kNumSlots;
      if (to_load != 0) continue;
      if (++piece == num_pieces) {
        piece = 0;
        rows.advance(lane);
      }
      to_load = rows.contributors;
    }
    if (num_under_way == 0) break;
    __syncwarp();
    if (num_under_way == kNumSlots) {
      ptx::async_wait<kNumSlots - 1>();
    } else {
      ptx::async_wait<0>();
    }
    const FoldSlot<typename Rows::Mark> slot = slots[sum_place];
    const std::byte* pieces = ring + sum_place * kNumAtOnce * kPieceBytes;
    if (kernel.factors == nullptr) {
      add_pieces<kType>(pieces, slot.num_terms, bytes_of(slot.piece), lane,
                        [&](int i, int, const uint4& bits) { sum.add(i, bits); });
    } else {
      add_pieces<kType>(pieces, slot.num_terms, bytes_of(slot.piece), lane,
                        [&](int i, int j, const uint4& bits) { sum.add_scaled(i, bits, slot.factors[j]); });
    }
    __syncwarp();  // all have read the slot before it is filled again
    --num_under_way;
    if (!slot.is_last) continue;
    store_folded<kType>(kernel, sum, static_cast<std::int64_t>(slot.piece) * kPieceBytes, slot.target, lane);
    sum.clear();
    if (!slot.is_end) continue;
    __syncwarp();
    rows.end(slot.mark, lane);
  }
}

inline FoldKernel fold_kernel_of(const FoldArgs& args) {
  return {.row_bytes = static_cast<std::int64_t>(args.row_bytes),
          .as_float8 = args.as_float8,
          .returned_row_bytes = static_cast<std::int64_t>(args.as_float8 ? args.returned_row_bytes : args.row_bytes),
          .num_ranks = args.num_ranks,
          .source_offsets = args.source_offsets,
          .source_token = args.source_token,
          .ordinal = args.ordinal,
          .max_fan_out = args.max_fan_out,
          .top_k = args.top_k,
          .expanded_row = args.expanded_row,
          .rows = args.rows,
          .rows_are_aligned = reinterpret_cast<std::uintptr_t>(args.rows) % 16 == 0,
          .factors = args.factors,
          .skip_source = args.skip_source,
          .carried_weights = args.carried_weights,
          .topk_idx = args.topk_idx,
          .rows_target = args.layout->rows,
          .weights_target = args.layout->weights,
          .windows = args.windows,
          .handshake = args.handshake,
          .state = args.state};
}

}  // namespace tokenyard::cuda
