// Every block works out for itself where this rank's rows begin at each destination, and then moves its share of the positions
// there.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/place.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 512;

__device__ std::int64_t count_at(const PlaceArgs& args, int source, int destination) {
  return __ldcg(&args.rank_counts[static_cast<std::int64_t>(source) * args.num_ranks + destination]);
}

// Rows that ranks 0 to `end` - 1 send to `destination`.
__device__ std::int64_t rows_of(const PlaceArgs& args, int end, int destination) {
  std::int64_t num_rows = 0;
  for (int source = 0; source < end; ++source) num_rows += count_at(args, source, destination);
  return num_rows;
}

// What this rank receives; by one warp of block 0.
__device__ void place_sources(const PlaceArgs& args, int lane) {
  for (int source = lane; source <= args.num_ranks; source += 32) {
    args.source_offsets[source] = min(rows_of(args, source, args.rank), args.capacity);
  }
  if (args.totals == nullptr) return;
  std::int64_t most = 0;
  for (int destination = lane; destination < args.num_ranks; destination += 32) {
    most = max(most, rows_of(args, args.num_ranks, destination));
  }
  for (int distance = 16; distance > 0; distance /= 2) most = max(most, __shfl_xor_sync(0xffffffff, most, distance));
  if (lane == 0) {
    args.totals[0] = rows_of(args, args.num_ranks, args.rank);
    args.totals[1] = most;
  }
}

__global__ void __launch_bounds__(kNumThreads, 1) place_tokens(const __grid_constant__ PlaceArgs args) {
  extern __shared__ std::int64_t first_row[];  // [R]
  const int thread = static_cast<int>(threadIdx.x);
  const CallTurn call_turn = load_turn(args.handshake);
  post_entry(args.handshake, call_turn);
  const bool is_well = __syncthreads_and(await_entry(args.handshake, call_turn)) != 0;
  if (is_well) {
    for (int rank = thread; rank < args.num_ranks; rank += kNumThreads) first_row[rank] = rows_of(args, args.rank, rank);
    __syncthreads();
    if (blockIdx.x == 0 && thread >= kNumThreads - 32) place_sources(args, thread % 32);
    const std::int64_t num_entries = args.num_tokens * args.max_fan_out;
    for (std::int64_t entry = static_cast<std::int64_t>(blockIdx.x) * kNumThreads + thread; entry < num_entries;
         entry += static_cast<std::int64_t>(gridDim.x) * kNumThreads) {
      if (entry % args.max_fan_out >= args.fan_out[entry / args.max_fan_out]) continue;
      const std::int64_t row = first_row[args.destination[entry]] + args.row[entry];
      args.row[entry] = row < args.capacity ? row : -1;
    }
  }
  leave_kernel(args.handshake, call_turn, is_well, args.state);
}

}  // namespace

void place(const PlaceArgs& args, const Launch& launch) {
  const std::int64_t num_entries = args.num_tokens * args.max_fan_out;
  const int num_blocks =
      static_cast<int>(std::clamp<std::int64_t>((num_entries + kNumThreads - 1) / kNumThreads, 1, launch.num_sms));
  place_tokens<<<num_blocks, kNumThreads, args.num_ranks * sizeof(std::int64_t), launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "place");
}

}  // namespace tokenyard::cuda
