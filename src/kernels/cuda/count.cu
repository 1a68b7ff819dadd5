// Blocks take chunks of tokens. Each finds the ranks that its tokens visit, and positions among the chunk's own tokens, by
// itself; how many rows a chunk has it leaves to the last block, which adds them up and tells all ranks. `place` moves
// positions behind those of earlier chunks, as it does behind those of other ranks: so no block waits for another.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/count.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/warp.cuh"
#include "tokenyard/shape.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumWarps = 32;
// Of tokens that a warp has in a chunk, whose loads are under way together, and which it keeps in registers.
constexpr int kNumRounds = 2;
constexpr int kMaxChunkTokens = 256;
constexpr int kMaxSharedBytes = 88 * 1024;  // every GPU has 99 KiB
static_assert(kMaxRanks * kMaxChunkTokens / 8 <= kMaxSharedBytes);

struct Kernel {
  const std::byte* ids;
  bool is_int64;
  std::int64_t token_stride;  // bytes
  std::int64_t k_stride;
  std::int64_t num_tokens;
  int top_k;
  PlacementView placement;
  int rank;
  int num_ranks;
  int max_fan_out;
  int max_local_experts;
  int num_chunks;
  int chunk_tokens;
  std::int32_t* fan_out;
  std::int32_t* destination;
  std::int64_t* row;
  std::int32_t* chunk_positions;
  std::int32_t* ordinal;
  std::int32_t* local_idx;
  std::int32_t* const* rank_counts;
  std::int32_t* const* expert_counts;
  Handshake handshake;
  std::uint32_t* num_done;  // blocks; zero between launches, as the sums
  std::int32_t* sums;       // [R, L]
  bool counts_apart;        // a block adds up experts' counts in shared memory: there is room
};

__device__ std::int64_t load_id(const Kernel& kernel, std::int64_t token, int k) {
  const std::byte* id = kernel.ids + token * kernel.token_stride + k * kernel.k_stride;
  if (kernel.is_int64) return *reinterpret_cast<const std::int64_t*>(id);
  return *reinterpret_cast<const std::int32_t*>(id);
}

// As Placement::pick, for experts with several replicas.
__device__ __noinline__ Replica pick(const Replica* choices, int num_choices, int source_rank, std::int64_t token) {
  for (int i = 0; i < num_choices; ++i) {
    if (choices[i].rank == source_rank) return choices[i];
  }
  return choices[static_cast<std::uint64_t>(source_rank + token) % num_choices];
}

// How a warp shares out its tokens: as many at a time as there is room for, `width` lanes each. Lane k of a token has its id k.
struct Lanes {
  int width;        // a power of two, at least top-k
  int num_at_once;  // tokens
  int token;        // which of them this lane belongs to
  int k;

  static constexpr int width_of(int top_k) {
    int width = 1;
    while (width < top_k) width *= 2;
    return width;
  }

  __device__ explicit Lanes(int top_k) : width(width_of(top_k)) {
    num_at_once = kWarp / width;
    token = static_cast<int>(threadIdx.x) % kWarp / width;
    k = static_cast<int>(threadIdx.x) % width;
  }

  // The warp's round number `round`: this lane's token in the chunk.
  __device__ int in_chunk(int round) const {
    return (round * kNumWarps + static_cast<int>(threadIdx.x) / kWarp) * num_at_once + token;
  }
};

// The replicas that serve this lane's ids in all rounds, which go through the three dependent loads together.
__device__ void find_replicas(const Kernel& kernel, std::int64_t first, int num_here, const Lanes& lanes,
                              Replica (&replicas)[kNumRounds]) {
  std::int64_t ids[kNumRounds];
  std::int32_t begins[kNumRounds];
  std::int32_t ends[kNumRounds];
#pragma unroll
  for (int i = 0; i < kNumRounds; ++i) {
    const int in_chunk = lanes.in_chunk(i);
    ids[i] = in_chunk < num_here && lanes.k < kernel.top_k ? load_id(kernel, first + in_chunk, lanes.k) : -1;
  }
  bool is_bad = false;
#pragma unroll
  for (int i = 0; i < kNumRounds; ++i) {
    if (ids[i] < -1 || ids[i] >= kernel.placement.num_experts) {
      is_bad = true;
      ids[i] = -1;
    }
    // Those of expert 0 for ids of -1: loads without branches between them are under way together.
    begins[i] = kernel.placement.first_replica[max(ids[i], std::int64_t{0})];
    ends[i] = kernel.placement.first_replica[max(ids[i], std::int64_t{0}) + 1];
  }
#pragma unroll
  for (int i = 0; i < kNumRounds; ++i) replicas[i] = kernel.placement.replicas[begins[i]];
#pragma unroll
  for (int i = 0; i < kNumRounds; ++i) {
    const int num_choices = ends[i] - begins[i];
    if (ids[i] < 0) {
      replicas[i] = {-1, -1};
    } else if (num_choices > 1) {
      replicas[i] = pick(kernel.placement.replicas + begins[i], num_choices, kernel.rank, first + lanes.in_chunk(i));
    }
  }
  if (is_bad && kernel.handshake.signals.failures != nullptr) {
    fail(kernel.handshake.signals, ErrorCode::kInvalidArgument, Phase::kDispatchCounts, kernel.rank);
  }
}

// What find_replicas() looks up comes while the ids are loaded: with one replica per expert, all of it.
__device__ void prefetch_placement(const PlacementView& placement) {
  constexpr std::int64_t kLineBytes = 128;
  const auto prefetch_line = [&](const void* array, std::size_t num_bytes) {
    const std::int64_t line = threadIdx.x * kLineBytes;
    if (line < static_cast<std::int64_t>(num_bytes)) ptx::prefetch(static_cast<const std::byte*>(array) + line);
  };
  const auto num_experts = static_cast<std::size_t>(placement.num_experts);
  prefetch_line(placement.first_replica, (num_experts + 1) * sizeof(std::int32_t));
  prefetch_line(placement.replicas, num_experts * sizeof(Replica));
}

// A rank that a lane's token visits, said by the first of the lanes whose ids it serves.
struct Visit {
  std::int32_t rank;
  std::int32_t ordinal;  // -1: none
};

// Marks the tokens of a round in the bitmaps of the ranks that they visit. All lanes of the warp, also those without a token.
// Experts' counts go to `counts_here`, in shared memory, or to the sums if there is no room.
__device__ Visit route_tokens(const Kernel& kernel, std::int64_t first, int num_here, int in_chunk, const Replica& replica,
                              const Lanes& lanes, std::uint32_t* bitmaps, std::int32_t* counts_here) {
  // The ordinal of a rank is the number of different smaller ones. Of equal ranks the first lane counts.
  bool is_first = replica.rank >= 0;
  for (int k = 0; k < kernel.top_k; ++k) {
    const int other = __shfl_sync(kAllLanes, replica.rank, k, lanes.width);
    if (k < lanes.k && other == replica.rank) is_first = false;
  }
  const unsigned firsts = __ballot_sync(kAllLanes, is_first) >> (lanes.token * lanes.width);
  int ordinal = 0;
  for (int k = 0; k < kernel.top_k; ++k) {
    const int other = __shfl_sync(kAllLanes, replica.rank, k, lanes.width);
    if ((firsts >> k & 1U) != 0 && other < replica.rank) ++ordinal;
  }
  if (in_chunk >= num_here || lanes.k >= kernel.top_k) return {-1, -1};
  if (replica.rank < 0) ordinal = -1;
  const std::int64_t token = first + in_chunk;
  kernel.ordinal[token * kernel.top_k + lanes.k] = ordinal;
  kernel.local_idx[token * kernel.top_k + lanes.k] = replica.local_idx;
  if (replica.rank >= 0) {
    const std::int64_t expert = static_cast<std::int64_t>(replica.rank) * kernel.max_local_experts + replica.local_idx;
    if (kernel.counts_apart) {
      atomicAdd(&counts_here[expert], 1);
    } else {
      atomicAdd(&kernel.sums[expert], 1);
    }
  }
  if (is_first) {
    kernel.destination[token * kernel.max_fan_out + ordinal] = replica.rank;
    atomicOr(&bitmaps[(replica.rank * kernel.chunk_tokens + in_chunk) / 32], 1U << (in_chunk % 32));
  }
  if (lanes.k == 0) {
    const unsigned mask = lanes.width == kWarp ? 0xffffffffU : (1U << lanes.width) - 1U;
    kernel.fan_out[token] = __popc(firsts & mask);
  }
  return {replica.rank, is_first ? ordinal : -1};
}

__device__ int count_bits(const std::uint32_t* bitmap, int num_bits) {
  int num_set = 0;
  for (int word = 0; word * 32 < num_bits; ++word) {
    const int rest = num_bits - word * 32;
    const std::uint32_t mask = rest >= 32 ? 0xffffffffU : (1U << rest) - 1U;
    num_set += __popc(bitmap[word] & mask);
  }
  return num_set;
}

// The positions where the chunks' tokens begin among those for `rank`, from how many each has; by a warp. Returns how many all
// have.
__device__ std::int32_t add_chunks(const Kernel& kernel, int rank, int lane) {
  std::int32_t* positions = kernel.chunk_positions + static_cast<std::int64_t>(rank) * kernel.num_chunks;
  std::int32_t num_before = 0;
  for (int first = 0; first < kernel.num_chunks; first += kWarp) {
    const int chunk = first + lane;
    const std::int32_t num_rows = chunk < kernel.num_chunks ? __ldcg(&positions[chunk]) : 0;
    const std::int32_t sum = sum_up_to_lane(num_rows, lane);
    if (chunk < kernel.num_chunks) positions[chunk] = num_before + sum - num_rows;
    num_before += __shfl_sync(kAllLanes, sum, kWarp - 1);
  }
  return num_before;
}

// The last block tells everybody what all blocks have counted, and leaves the workspace as it was.
__device__ void tell_counts(const Kernel& kernel, int thread) {
  const int lane = thread % kWarp;
  const CallTurn call_turn = load_turn(kernel.handshake);
  const bool tells = kernel.rank_counts != nullptr && call_turn.may_work();
  const int num_sums = kernel.num_ranks * kernel.max_local_experts;
  for (int i = thread; i < num_sums; i += kNumWarps * kWarp) {
    const std::int32_t sum = __ldcg(&kernel.sums[i]);
    kernel.sums[i] = 0;
    if (!tells) continue;
    std::int32_t* const matrix = kernel.expert_counts[i / kernel.max_local_experts];
    if (matrix == nullptr) continue;
    matrix[static_cast<std::int64_t>(kernel.rank) * kernel.max_local_experts + i % kernel.max_local_experts] = sum;
  }
  // From the last warp on: the first ones have more experts.
  for (int rank = kNumWarps - 1 - thread / kWarp; rank < kernel.num_ranks; rank += kNumWarps) {
    const std::int32_t num_rows = add_chunks(kernel, rank, lane);
    for (int peer = lane; tells && peer < kernel.num_ranks; peer += kWarp) {
      std::int32_t* const matrix = kernel.rank_counts[peer];
      if (matrix != nullptr) matrix[static_cast<std::int64_t>(kernel.rank) * kernel.num_ranks + rank] = num_rows;
    }
  }
  if (thread == 0) *kernel.num_done = 0;
  // A failure may have become known to some threads alone.
  const bool all_tell = __syncthreads_and(tells) != 0;
  if (all_tell && thread < kWarp) post_entry_by_warp(kernel.handshake, call_turn, lane);
}

__global__ void __launch_bounds__(kNumWarps* kWarp, 1) count_tokens(const __grid_constant__ Kernel kernel) {
  extern __shared__ std::uint32_t bitmaps[];  // [R, chunk_tokens / 32]: which tokens of the chunk visit the rank
  const int rank_words = kernel.chunk_tokens / 32;
  auto* counts_here = reinterpret_cast<std::int32_t*>(bitmaps + kernel.num_ranks * rank_words);  // [R, L], if counts_apart
  const int num_counts = kernel.num_ranks * kernel.max_local_experts;
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x);
  const int num_threads = kNumWarps * kWarp;
  const Lanes lanes(kernel.top_k);
  prefetch_placement(kernel.placement);
#pragma unroll 1
  for (int chunk = static_cast<int>(blockIdx.x); chunk < kernel.num_chunks; chunk += static_cast<int>(gridDim.x)) {
    for (int i = thread; i < kernel.num_ranks * rank_words; i += num_threads) bitmaps[i] = 0;
    for (int i = thread; kernel.counts_apart && i < num_counts; i += num_threads) counts_here[i] = 0;
    __syncthreads();
    const std::int64_t first = static_cast<std::int64_t>(chunk) * kernel.chunk_tokens;
    const int num_here = static_cast<int>(min(static_cast<std::int64_t>(kernel.chunk_tokens), kernel.num_tokens - first));
    Replica replicas[kNumRounds];
    Visit visits[kNumRounds];
    find_replicas(kernel, first, num_here, lanes, replicas);
#pragma unroll
    for (int i = 0; i < kNumRounds; ++i) {
      visits[i] = route_tokens(kernel, first, num_here, lanes.in_chunk(i), replicas[i], lanes, bitmaps, counts_here);
    }
    __syncthreads();
    for (int rank = thread; rank < kernel.num_ranks; rank += num_threads) {
      kernel.chunk_positions[static_cast<std::int64_t>(rank) * kernel.num_chunks + chunk] =
          count_bits(bitmaps + rank * rank_words, kernel.chunk_tokens);
    }
    for (int i = thread; kernel.counts_apart && i < num_counts; i += num_threads) {
      if (counts_here[i] > 0) atomicAdd(&kernel.sums[i], counts_here[i]);
    }
#pragma unroll
    for (int i = 0; i < kNumRounds; ++i) {
      const int in_chunk = lanes.in_chunk(i);
      if (visits[i].ordinal < 0) continue;
      kernel.row[(first + in_chunk) * kernel.max_fan_out + visits[i].ordinal] =
          count_bits(bitmaps + visits[i].rank * rank_words, in_chunk);
    }
    __syncthreads();  // the bitmaps are used again, or the block has done its part
  }
  if (thread == 0) {
    __threadfence();
    is_last = atomicAdd(kernel.num_done, 1U) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (is_last) tell_counts(kernel, thread);
}

// Of the workspace, before the sums.
constexpr std::size_t kCounterBytes = 256;

const RegisteredKernels kKernels{address_of(count_tokens)};

}  // namespace

int count_chunk_tokens(int top_k) {
  return std::min(kMaxChunkTokens, kNumRounds * kNumWarps * (kWarp / Lanes::width_of(top_k)));
}

std::int64_t count_chunks(std::int64_t num_tokens, int top_k) {
  return (num_tokens + count_chunk_tokens(top_k) - 1) / count_chunk_tokens(top_k);
}

std::size_t count_workspace_bytes(int num_ranks, int max_local_experts) {
  return kCounterBytes + static_cast<std::size_t>(num_ranks) * max_local_experts * sizeof(std::int32_t);
}

void count(const CountArgs& args, const Launch& launch) {
  const auto id_bytes = static_cast<std::int64_t>(size_of(args.topk_idx.dtype));
  Kernel kernel{};
  kernel.ids = static_cast<const std::byte*>(args.topk_idx.data);
  kernel.is_int64 = args.topk_idx.dtype == DataType::kInt64;
  kernel.token_stride = args.topk_idx.strides[0] * id_bytes;
  kernel.k_stride = args.topk_idx.strides[1] * id_bytes;
  kernel.num_tokens = args.topk_idx.shape[0];
  kernel.top_k = static_cast<int>(args.topk_idx.shape[1]);
  kernel.placement = args.placement;
  kernel.rank = args.rank;
  kernel.num_ranks = args.num_ranks;
  kernel.max_fan_out = args.max_fan_out;
  kernel.max_local_experts = args.max_local_experts;
  kernel.num_chunks = static_cast<int>(count_chunks(kernel.num_tokens, kernel.top_k));
  kernel.chunk_tokens = count_chunk_tokens(kernel.top_k);
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  kernel.chunk_positions = args.chunk_positions;
  kernel.ordinal = args.ordinal;
  kernel.local_idx = args.local_idx;
  kernel.rank_counts = args.rank_counts;
  kernel.expert_counts = args.expert_counts;
  kernel.handshake = args.handshake;
  kernel.num_done = reinterpret_cast<std::uint32_t*>(args.workspace);
  kernel.sums = reinterpret_cast<std::int32_t*>(args.workspace + kCounterBytes);

  std::int64_t shared_bytes = std::int64_t{args.num_ranks} * kernel.chunk_tokens / 8;
  const std::int64_t count_bytes =
      std::int64_t{args.num_ranks} * args.max_local_experts * static_cast<std::int64_t>(sizeof(std::int32_t));
  kernel.counts_apart = shared_bytes + count_bytes <= kMaxSharedBytes;
  if (kernel.counts_apart) shared_bytes += count_bytes;
  const int num_blocks = std::clamp(kernel.num_chunks, 1, launch.num_sms);
  count_tokens<<<num_blocks, kNumWarps * kWarp, static_cast<std::size_t>(shared_bytes), launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "count");
}

}  // namespace tokenyard::cuda
