// What this rank contributes to a token: the sum of the row's copies here, made in registers and stored at the token's home.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/fold.hpp"
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
    std::uint32_t largest = 0;  // of elements behind the row's last the sums are 0
#pragma unroll
    for (int j = 0; j < kNumElements; ++j) largest = max(largest, finite_magnitude(sum.numbers[i][j]));
    const BlockScale scale(amax_of_lanes<kNumLanes>(largest), ScaleFormat::kFloat32);
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

// `place`: lane k holds the row of term k, or -1.
template <DataType kType>
__device__ void fold_row(const FoldKernel& kernel, std::int64_t place, std::byte* target, int lane) {
  using Sum = WarpSum<kType>;
  const unsigned terms = __ballot_sync(0xffffffff, place >= 0);
  const float factor = kernel.factors != nullptr && place >= 0 ? kernel.factors[place] : 1.0F;
  for (std::int64_t first = 0; first < kernel.row_bytes; first += Sum::kNumBytes) {
    Sum sum;
    sum.clear();
    for (unsigned rest = terms; rest != 0; rest &= rest - 1) {
      const int term = __ffs(static_cast<int>(rest)) - 1;
      const std::byte* row = kernel.rows + __shfl_sync(0xffffffff, place, term) * kernel.row_bytes + first;
      const float term_factor = __shfl_sync(0xffffffff, factor, term);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int offset = Sum::offset(i, lane);
        if (first + offset >= kernel.row_bytes) continue;
        sum.add_scaled(i, load_anywhere<kType>(row + offset, kernel.rows_are_aligned), term_factor);
      }
    }
    if constexpr (kType != DataType::kFloat64) {
      if (kernel.as_float8) {
        store_as_float8<kType>(kernel, sum, first, target, lane);
        continue;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int offset = Sum::offset(i, lane);
      if (first + offset < kernel.row_bytes) ptx::store_row(target + first + offset, Vector<kType>::encode(sum.numbers[i]));
    }
  }
}

// Whether contributions are rows as they are, NaNs and all.
__host__ __device__ inline bool is_copied(const FoldKernel& kernel) {
  return kernel.expanded_row == nullptr && kernel.factors == nullptr && !kernel.as_float8;
}

// One received row, by a warp: what this rank contributes to its token, and the weights that are carried home with it. Without
// kSums contributions are copied.
template <DataType kType, bool kSums = true>
__device__ void fold_one(const FoldKernel& kernel, std::int64_t row, int source, int lane) {
  std::byte* window = kernel.windows[source];
  if (window == nullptr) return;
  std::int64_t place = -1;
  if (kernel.expanded_row != nullptr) {
    if (lane < kernel.top_k) place = kernel.expanded_row[row * kernel.top_k + lane];
  } else if (lane == 0) {
    place = row;
  }
  if (kernel.carried_weights != nullptr) return_weight(kernel, row, place, window, lane);
  if (kernel.rows == nullptr || source == kernel.skip_source) return;
  const std::int64_t home = static_cast<std::int64_t>(kernel.source_token[row]) * kernel.max_fan_out + kernel.ordinal[row];
  std::byte* target = window + kernel.rows_target + home * kernel.returned_row_bytes;
  if (!kSums || is_copied(kernel)) {
    const std::byte* source_row = kernel.rows + row * kernel.row_bytes;
    if (kernel.rows_are_aligned) {
      copy_row(target, source_row, kernel.row_bytes, lane);
    } else {
      constexpr int kElementBytes = static_cast<int>(size_of(kType));
      copy_elements(target, source_row, kElementBytes, kElementBytes, kernel.row_bytes / kElementBytes, lane);
    }
  } else if constexpr (kSums) {
    fold_row<kType>(kernel, place, target, lane);
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
