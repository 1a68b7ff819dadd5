// What this rank contributes to a token: the sum of the row's copies here, stored at the token's home; or the row itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/ring.cuh"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/sum.cuh"

namespace tokenyard::cuda {

struct FoldKernel {
  std::int64_t row_bytes;
  RowPieces pieces;
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

// Whether terms that are summed are loaded in bulk.
inline bool loads_in_bulk(const FoldKernel& kernel, const Launch& launch) {
  return uses_bulk_copies(launch) && kernel.rows_are_aligned;
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

// `num_bytes` of sums, from byte `first` of the row on.
template <DataType kType>
__device__ void store_folded(const FoldKernel& kernel, const WarpSum<kType>& sum, std::int64_t first, int num_bytes,
                             std::byte* target, int lane) {
  if constexpr (kType != DataType::kFloat64) {
    if (kernel.as_float8) return store_as_float8<kType>(kernel, sum, first, target, lane);
  }
  std::byte* vectors = target + first + WarpSum<kType>::offset(0, lane);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (num_bytes < kPieceBytes && WarpSum<kType>::offset(i, lane) >= num_bytes) continue;
    ptx::store_row(vectors + WarpSum<kType>::offset(i, 0), Vector<kType>::encode(sum.numbers[i]));
  }
}

// Sums of rows' terms, stored at the tokens' homes, for stream_sums(). `rows` is a FoldedRow that advance() makes the next one,
// of which is_end says whether it is the last one that `mark` stands for; end(mark) comes when that has been stored.
template <DataType kType, class Rows>
class RowSums {
 public:
  struct alignas(16) Slot {
    std::byte* target;  // of the row
    std::int32_t piece;
    std::int32_t num_bytes;  // of each term
    float factors[kNumAtOnce];
    std::int16_t num_terms;
    bool is_last;  // of its piece
    bool is_end;   // of what `mark` stands for
    typename Rows::Mark mark;
  };

  __device__ RowSums(const FoldKernel& kernel, Rows* rows) : kernel_(kernel), rows_(*rows) {}

  __device__ bool is_there() const { return rows_.is_there; }
  __device__ int piece() const { return piece_; }
  __device__ int piece_bytes() const { return kernel_.pieces.bytes_of(piece_); }
  __device__ unsigned contributors() const { return rows_.contributors; }
  __device__ const std::byte* contribution() const { return rows_.contribution; }

  __device__ void advance(int lane) {
    if (++piece_ < kernel_.pieces.num) return;
    piece_ = 0;
    rows_.advance(lane);
  }

  __device__ void describe(Slot* slot, int num_bytes, unsigned taken, bool is_last, int lane) const {
    if (kernel_.factors != nullptr && (taken >> lane & 1U) != 0) {
      slot->factors[__popc(taken & ((1U << lane) - 1))] = rows_.factor;
    }
    if (lane != 0) return;
    slot->target = rows_.target;
    slot->piece = piece_;
    slot->num_bytes = num_bytes;
    slot->num_terms = static_cast<std::int16_t>(__popc(taken));
    slot->is_last = is_last;
    slot->is_end = is_last && piece_ + 1 == kernel_.pieces.num && rows_.is_end;
    if (slot->is_end) slot->mark = rows_.mark;
  }

  __device__ void add(WarpSum<kType>& sum, const Slot& slot, const std::byte* pieces, int lane) const {
    if (kernel_.factors == nullptr) {
      add_pieces<kType>(pieces, slot.num_terms, slot.num_bytes, lane, [&](int i, int, const uint4& bits) { sum.add(i, bits); });
    } else {
      add_pieces<kType>(pieces, slot.num_terms, slot.num_bytes, lane,
                        [&](int i, int j, const uint4& bits) { sum.add_scaled(i, bits, slot.factors[j]); });
    }
  }

  __device__ void store(const WarpSum<kType>& sum, const Slot& slot, int lane) {
    const std::int64_t first = static_cast<std::int64_t>(slot.piece) * kPieceBytes;
    store_folded<kType>(kernel_, sum, first, slot.num_bytes, slot.target, lane);
    if (slot.is_end) rows_.end(slot.mark, lane);
  }

 private:
  const FoldKernel& kernel_;
  Rows& rows_;
  int piece_ = 0;
};

inline FoldKernel fold_kernel_of(const FoldArgs& args) {
  const auto row_bytes = static_cast<std::int64_t>(args.row_bytes);
  return {.row_bytes = row_bytes,
          .pieces = pieces_of_row(row_bytes),
          .as_float8 = args.as_float8,
          .returned_row_bytes = args.as_float8 ? static_cast<std::int64_t>(args.returned_row_bytes) : row_bytes,
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
