// The device side of payload.hpp: what the lanes of a warp move by themselves, and which parts go in bulk.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/conveyor.cuh"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/payload.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/routes.cuh"

namespace tokenyard::cuda {

// `output_window`: memory whose rows go to the outputs instead; null: none do.
__device__ inline std::byte* place_of(const Payload& payload, const SourceLane& lane, std::byte* window, std::int64_t row,
                                      const std::byte* output_window) {
  const bool goes_out = payload.copies_out && window == output_window && row < payload.num_output_rows;
  return (goes_out ? lane.output : window + lane.target) + row * lane.row_bytes;
}

// Ids, weights and source position, and lanes that go token by token.
__device__ inline void send_plainly(const Payload& payload, const Route& route, const std::byte* output_window, int lane) {
  std::byte* window = route.window;
  const unsigned targets = __ballot_sync(kAllLanes, window != nullptr);
#pragma unroll 1
  for (int i = 0; i < payload.num_lanes; ++i) {
    const SourceLane& source_lane = payload.lanes[i];
    if (source_lane.way == Way::kBulk || source_lane.way == Way::kGroup) continue;
    const std::byte* source = source_lane.rows + route.token * source_lane.row_stride;
    std::byte* target = window == nullptr ? nullptr : place_of(payload, source_lane, window, route.row, output_window);
    if (source_lane.way == Way::kByThreads) {
      copy_to_all(targets, target, source, source_lane.row_bytes, lane);
      continue;
    }
#pragma unroll 1
    for (unsigned rest = targets; rest != 0; rest &= rest - 1) {
      const int o = __ffs(static_cast<int>(rest)) - 1;
      const auto address = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(target), o);
      copy_elements(reinterpret_cast<std::byte*>(address), source, source_lane.element_stride, source_lane.element_bytes,
                    source_lane.num_elements, lane);
    }
  }
  if (payload.ordinal == nullptr) return;
  int ordinal = -1;
  int local_idx = -1;
  float weight = 0.0F;
  if (lane < payload.top_k) {
    ordinal = payload.ordinal[route.token * payload.top_k + lane];
    local_idx = payload.local_idx[route.token * payload.top_k + lane];
    if (payload.topk_weights != nullptr) {
      weight = *reinterpret_cast<const float*>(payload.topk_weights + route.token * payload.weights_token_stride +
                                               lane * payload.weights_k_stride);
    }
  }
#pragma unroll 1
  for (unsigned rest = targets; rest != 0; rest &= rest - 1) {
    const int o = __ffs(static_cast<int>(rest)) - 1;
    auto* target = reinterpret_cast<std::byte*>(__shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window), o));
    const std::int64_t row = __shfl_sync(kAllLanes, route.row, o);
    const IdTargets& ids = target == output_window ? payload.output_ids : payload.ids;
    if (lane < payload.top_k) {
      const std::int64_t entry = row * payload.top_k + lane;
      reinterpret_cast<std::int32_t*>(target + ids.topk_idx)[entry] = ordinal == o ? local_idx : -1;
      if (payload.topk_weights != nullptr) reinterpret_cast<float*>(target + ids.topk_weights)[entry] = weight;
    }
    if (lane == 0) {
      reinterpret_cast<std::int32_t*>(target + ids.source_token)[row] = static_cast<std::int32_t>(route.token);
      reinterpret_cast<std::int32_t*>(target + ids.ordinal)[row] = o;
    }
  }
}

// The short rows of a group of tokens. Neighbouring tokens often go to the same rank, and stand side by side there: stores of
// several tokens' rows are one piece.
__device__ inline void send_group(const Payload& payload, const TokenGroup group, const std::byte* output_window) {
  constexpr int kUnroll = 4;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (int i = 0; i < payload.num_lanes; ++i) {
    const SourceLane& source_lane = payload.lanes[i];
    if (source_lane.way != Way::kGroup) continue;
    const int row_vectors = source_lane.row_bytes / 16;
    const int num_vectors = group.num_tokens * row_vectors;
#pragma unroll 1
    for (int first = 0; first < num_vectors; first += kUnroll * kWarp) {
      uint4 values[kUnroll];
      int holder[kUnroll];  // of the vector's token, ordinal 0
      int offset[kUnroll];
#pragma unroll
      for (int j = 0; j < kUnroll; ++j) {
        const int vector = first + j * kWarp + lane;
        const int idx = vector / row_vectors;
        offset[j] = (vector - idx * row_vectors) * 16;
        holder[j] = vector < num_vectors ? idx * group.width : 0;
        int token = __shfl_sync(kAllLanes, group.token, holder[j]);
        if (vector >= num_vectors) token = -1;
        if (token < 0) holder[j] = -1;
        if (token >= 0) values[j] = ptx::load_row(source_lane.rows + token * source_lane.row_stride + offset[j]);
      }
#pragma unroll 1
      for (int o = 0; o < payload.max_fan_out; ++o) {
#pragma unroll
        for (int j = 0; j < kUnroll; ++j) {
          const int from = max(holder[j], 0) + o;
          const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(group.sent.window), from);
          const std::int64_t row = __shfl_sync(kAllLanes, group.sent.row, from);
          if (holder[j] < 0 || window == 0) continue;
          ptx::store_row(place_of(payload, source_lane, reinterpret_cast<std::byte*>(window), row, output_window) + offset[j],
                         values[j]);
        }
      }
    }
  }
}

#if __CUDA_ARCH__ >= 900

// The lane that a token's part belongs to.
__device__ inline const SourceLane& lane_of(const Payload& payload, int part) {
  int i = payload.num_lanes - 1;
#pragma unroll 1
  while (i > 0 && (payload.lanes[i].way != Way::kBulk || part < payload.lanes[i].first_part)) --i;
  return payload.lanes[i];
}

// Parts of one lane that follow each other in a token's row.
struct Run {
  const std::byte* from;  // the row
  int begin;              // byte
  int end;
  int part_bytes;
};

// The next run of a route, which begins with `*part`; that moves behind it. Tells the conveyor where the run goes. By all
// lanes, with a __syncwarp() between a run's end and the next one's beginning.
__device__ inline Run begin_run(const Payload& payload, const Route& route, int* part, const std::byte* output_window,
                                Conveyor& conveyor, int lane) {
  const SourceLane& source = lane_of(payload, *part);
  if (lane < payload.max_fan_out) {
    conveyor.next_targets()[lane] =
        route.window == nullptr ? nullptr : place_of(payload, source, route.window, route.row, output_window);
  }
  __syncwarp();
  conveyor.begin_row();
  const std::byte* from = source.rows + route.token * source.row_stride;
  const int begin = (*part - source.first_part) * source.part_bytes;
  const int end = min(begin + (route.first_part + route.num_parts - *part) * source.part_bytes, source.row_bytes);
  *part += (end - begin + source.part_bytes - 1) / source.part_bytes;
  return {from, begin, end, source.part_bytes};
}

#endif

}  // namespace tokenyard::cuda
