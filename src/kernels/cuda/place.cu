// Every block works out for itself where this rank's rows begin at each destination, and then moves its share of the positions
// there, from the place that `count` has given them in their chunk.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/place.hpp"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/warp.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 512;

__device__ std::int64_t count_at(const PlaceArgs& args, int source, int destination) {
  return __ldcg(&args.rank_counts[static_cast<std::int64_t>(source) * args.num_ranks + destination]);
}

__device__ std::int64_t expert_count_at(const PlaceArgs& args, int source, int expert) {
  return __ldcg(&args.expert_counts[static_cast<std::int64_t>(source) * args.max_local_experts + expert]);
}

// Of each destination, in shared memory.
struct Sums {
  std::int64_t* first_row;  // [R]: of this rank's rows there
  std::int64_t* num_rows;   // [R]: that it is sent in all
};

// By all threads of a block. Whether some rank is sent more than fits, as far as this thread has seen.
__device__ bool sum_counts(const PlaceArgs& args, const Sums& sums) {
  bool is_too_much = false;
  for (int destination = static_cast<int>(threadIdx.x); destination < args.num_ranks; destination += kNumThreads) {
    std::int64_t first_row = 0;
    std::int64_t num_rows = 0;
#pragma unroll 8
    for (int source = 0; source < args.num_ranks; ++source) {
      const std::int64_t count = count_at(args, source, destination);
      if (source < args.rank) first_row += count;
      num_rows += count;
    }
    sums.first_row[destination] = first_row;
    sums.num_rows[destination] = num_rows;
    is_too_much = is_too_much || num_rows > args.capacity;
  }
  return is_too_much;
}

// The most rows that any rank is sent; by a warp.
__device__ std::int64_t most_rows(const PlaceArgs& args, const Sums& sums, int lane) {
  std::int64_t most = 0;
  for (int destination = lane; destination < args.num_ranks; destination += 32) most = max(most, sums.num_rows[destination]);
  for (int distance = 16; distance > 0; distance /= 2) most = max(most, __shfl_xor_sync(kAllLanes, most, distance));
  return most;
}

// Rows of this rank's experts, with the gaps behind their groups; by a warp.
__device__ std::int64_t expanded_rows(const PlaceArgs& args, int lane) {
  std::int64_t num_rows = 0;
  if (args.expert_alignment == 0) return num_rows;
  for (int expert = lane; expert < args.num_local_experts; expert += 32) {
    std::int64_t count = 0;
    for (int source = 0; source < args.num_ranks; ++source) count += expert_count_at(args, source, expert);
    num_rows += (count + args.expert_alignment - 1) / args.expert_alignment * args.expert_alignment;
  }
  for (int distance = 16; distance > 0; distance /= 2) num_rows += __shfl_xor_sync(kAllLanes, num_rows, distance);
  return num_rows;
}

// What this rank sends to each rank; by a warp.
__device__ void describe_sent(const PlaceArgs& args, const Sums& sums, int lane) {
  if (args.sent == nullptr) return;
  std::int64_t staged_row = 0;
  for (int first = 0; first < args.num_ranks; first += 32) {
    const int rank = first + lane;
    const bool is_rank = rank < args.num_ranks;
    const std::int64_t num_rows = is_rank ? count_at(args, args.rank, rank) : 0;
    const std::int64_t num_staged = rank == args.rank ? 0 : num_rows;
    const std::int64_t sum = sum_up_to_lane(num_staged, lane);
    if (is_rank) {
      const std::int64_t first_row = sums.first_row[rank];
      const std::int64_t num_kept = args.must_fit ? num_rows : max(min(num_rows, args.capacity - first_row), std::int64_t{0});
      const SentBlock block{first_row, num_kept, staged_row + sum - num_staged};
      args.sent[rank] = block;
      if (args.host_sent != nullptr) args.host_sent[rank] = block;
    }
    staged_row += __shfl_sync(kAllLanes, sum, 31);
  }
}

// Where the rows for this rank begin among all that `source` sends to others.
__device__ std::int64_t staged_row_at(const PlaceArgs& args, int source) {
  std::int64_t row = 0;
#pragma unroll 8
  for (int destination = 0; destination < args.rank; ++destination) {
    const std::int64_t count = count_at(args, source, destination);
    if (destination != source) row += count;
  }
  return row;
}

// What this rank receives; by one warp of block 0.
__device__ void place_sources(const PlaceArgs& args, const Sums& sums, bool fits, std::uint64_t turn, int lane) {
  std::int64_t num_before = 0;
  for (int first = 0; first <= args.num_ranks; first += 32) {
    const int source = first + lane;
    const std::int64_t count = source < args.num_ranks ? count_at(args, source, args.rank) : 0;
    const std::int64_t sum = sum_up_to_lane(count, lane);
    if (source <= args.num_ranks) args.source_offsets[source] = min(num_before + sum - count, args.capacity);
    if (args.host_received != nullptr && source < args.num_ranks) {
      args.host_received[source] = {num_before + sum - count, count, staged_row_at(args, source)};
    }
    num_before += __shfl_sync(kAllLanes, sum, 31);
  }
  if (lane == 0 && args.gate != nullptr) *args.gate = fits ? 1 : 0;
  if (lane == 0 && args.routing_id != nullptr) *args.routing_id = routing_number(turn, args.routing_slot);
  describe_sent(args, sums, lane);
  if (args.totals == nullptr) return;
  const std::int64_t num_expanded_rows = expanded_rows(args, lane);
  const std::int64_t most = most_rows(args, sums, lane);
  __syncwarp();  // what the other lanes have told the host is released with the ticket
  if (lane == 0) {
    args.totals->num_recv_rows = sums.num_rows[args.rank];
    args.totals->max_recv_rows = most;
    args.totals->num_expanded_rows = num_expanded_rows;
    ptx::store_release_system(&args.totals->ticket, args.ticket);
  }
}

__device__ void keep_announced(const PlaceArgs& args) {
  if (args.announced_counts == nullptr) return;
  const int num_counts = args.num_ranks * args.max_local_experts;
  for (int i = static_cast<int>(blockIdx.x) * kNumThreads + static_cast<int>(threadIdx.x); i < num_counts;
       i += static_cast<int>(gridDim.x) * kNumThreads) {
    args.announced_counts[i] =
        static_cast<std::int32_t>(expert_count_at(args, i / args.max_local_experts, i % args.max_local_experts));
  }
}

// One of a token's destinations, and its position among this rank's tokens for it.
struct Position {
  std::int32_t destination = -1;  // none
  std::int64_t row = -1;
};

__device__ Position load_position(const PlaceArgs& args, std::int64_t entry) {
  const std::int64_t token = entry / args.max_fan_out;
  if (token >= args.num_tokens || entry % args.max_fan_out >= args.fan_out[token]) return {};
  const std::int64_t in_chunk = args.row[entry];
  const std::int32_t destination = args.destination[entry];
  const std::int64_t num_chunks = (args.num_tokens + args.chunk_tokens - 1) / args.chunk_tokens;
  return {destination, in_chunk + args.chunk_positions[destination * num_chunks + token / args.chunk_tokens]};
}

__global__ void __launch_bounds__(kNumThreads, 1) place_tokens(const __grid_constant__ PlaceArgs args) {
  extern __shared__ std::int64_t shared[];  // [2, R]
  const Sums sums{shared, shared + args.num_ranks};
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const CallTurn call_turn = load_turn(args.handshake);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kNumThreads + thread;
  Position position = load_position(args, first);  // while peers are awaited
  if (__syncthreads_and(await_entry(args.handshake, call_turn)) == 0) {
    // After a failure nothing has come, as far as later kernels can see.
    for (int source = thread; blockIdx.x == 0 && source <= args.num_ranks; source += kNumThreads) {
      args.source_offsets[source] = 0;
      if (args.sent != nullptr && source < args.num_ranks) args.sent[source] = {};
    }
    return;
  }
  keep_announced(args);
  const bool is_too_much = __syncthreads_or(sum_counts(args, sums)) != 0;
  const bool fits = !args.must_fit || !is_too_much;
  // While the other warps move positions.
  if (thread >= kNumThreads - 32 && blockIdx.x == 0) place_sources(args, sums, fits, call_turn.turn, lane);
  const std::int64_t num_entries = fits ? args.num_tokens * args.max_fan_out : 0;
  for (std::int64_t entry = first; entry < num_entries;) {
    if (position.destination >= 0) {
      const std::int64_t row = sums.first_row[position.destination] + position.row;
      args.row[entry] = row < args.capacity ? row : -1;
    }
    entry += static_cast<std::int64_t>(gridDim.x) * kNumThreads;
    position = load_position(args, entry);
  }
}

const RegisteredKernels kKernels{address_of(place_tokens)};

}  // namespace

void place(const PlaceArgs& args, const Launch& launch) {
  const std::int64_t num_entries = args.num_tokens * args.max_fan_out;
  const int num_blocks =
      static_cast<int>(std::clamp<std::int64_t>((num_entries + kNumThreads - 1) / kNumThreads, 1, launch.num_sms));
  place_tokens<<<num_blocks, kNumThreads, 2 * args.num_ranks * sizeof(std::int64_t), launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "place");
}

}  // namespace tokenyard::cuda
