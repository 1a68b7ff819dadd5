// Blocks take chunks of tokens in ascending order. Each finds the ranks that its tokens visit, and positions among the chunk's
// own tokens, by itself; then it adds what the chunks before it have, which they publish as soon as they know. A chunk waits
// only for chunks that were taken earlier, so nothing depends on how many blocks run at once.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/count.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumWarps = 32;
constexpr int kChunkTokens = 256;
constexpr int kChunkWords = kChunkTokens / 32;
// Of tokens that a warp takes at a time, whose loads are under way together: two are all that there are with top-8.
constexpr int kRoundsAtOnce = 2;
constexpr int kMaxSharedBytes = 88 * 1024;  // with experts' counts; every GPU has 99 KiB

// The workspace: this, then the sums of rank and expert counts, then per chunk and rank a published count.
struct Progress {
  std::uint32_t epoch;       // of the launch; published counts of other launches do not carry it
  std::uint32_t next_chunk;  // to be taken
  std::uint32_t num_done;    // blocks
};

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
  std::int32_t* fan_out;
  std::int32_t* destination;
  std::int64_t* row;
  std::int32_t* ordinal;
  std::int32_t* local_idx;
  std::int32_t* const* rank_counts;
  std::int32_t* const* expert_counts;
  Handshake handshake;
  Progress* progress;
  std::uint64_t* published;  // [chunks, R]: epoch << 32 | rows
  std::int32_t* sums;        // [R], then [R, L]; zero between launches
  bool counts_apart;         // a block adds up experts' counts in shared memory: there is room
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

  __device__ int num_rounds() const {
    const int num_in_round = kNumWarps * num_at_once;
    return (kChunkTokens + num_in_round - 1) / num_in_round;
  }

  // The warp's round number `round`: this lane's token in the chunk.
  __device__ int in_chunk(int round) const {
    return (round * kNumWarps + static_cast<int>(threadIdx.x) / kWarp) * num_at_once + token;
  }
};

// The replicas that serve this lane's ids in kRoundsAtOnce rounds, which go through the three dependent loads together.
__device__ void find_replicas(const Kernel& kernel, std::int64_t first, int num_here, const Lanes& lanes, int first_round,
                              Replica (&replicas)[kRoundsAtOnce]) {
  std::int64_t ids[kRoundsAtOnce];
  std::int32_t begins[kRoundsAtOnce];
  std::int32_t ends[kRoundsAtOnce];
#pragma unroll
  for (int i = 0; i < kRoundsAtOnce; ++i) {
    const int in_chunk = lanes.in_chunk(first_round + i);
    ids[i] = in_chunk < num_here && lanes.k < kernel.top_k ? load_id(kernel, first + in_chunk, lanes.k) : -1;
  }
  bool is_bad = false;
#pragma unroll
  for (int i = 0; i < kRoundsAtOnce; ++i) {
    if (ids[i] < -1 || ids[i] >= kernel.placement.num_experts) {
      is_bad = true;
      ids[i] = -1;
    }
    // Those of expert 0 for ids of -1: loads without branches between them are under way together.
    begins[i] = kernel.placement.first_replica[max(ids[i], std::int64_t{0})];
    ends[i] = kernel.placement.first_replica[max(ids[i], std::int64_t{0}) + 1];
  }
#pragma unroll
  for (int i = 0; i < kRoundsAtOnce; ++i) replicas[i] = kernel.placement.replicas[begins[i]];
#pragma unroll
  for (int i = 0; i < kRoundsAtOnce; ++i) {
    const int num_choices = ends[i] - begins[i];
    if (ids[i] < 0) {
      replicas[i] = {-1, -1};
    } else if (num_choices > 1) {
      const std::int64_t token = first + lanes.in_chunk(first_round + i);
      replicas[i] = pick(kernel.placement.replicas + begins[i], num_choices, kernel.rank, token);
    }
  }
  if (is_bad && kernel.handshake.signals.failures != nullptr) {
    fail(kernel.handshake.signals, ErrorCode::kInvalidArgument, Phase::kDispatchCounts, kernel.rank);
  }
}

// What find_replicas() looks up comes while the ticket is drawn and the ids are loaded: with one replica per expert, all of it.
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

// A rank that a lane's token visits, said by the first of the lanes whose ids it serves. The lane keeps it in shared memory
// until the rows are known.
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
      atomicAdd(&kernel.sums[kernel.num_ranks + expert], 1);
    }
  }
  if (is_first) {
    kernel.destination[token * kernel.max_fan_out + ordinal] = replica.rank;
    atomicOr(&bitmaps[replica.rank * kChunkWords + in_chunk / 32], 1U << (in_chunk % 32));
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

// Rows of all chunks before `chunk` for `rank`, by a warp; in lane 0.
__device__ std::int64_t rows_before(const Kernel& kernel, std::uint32_t epoch, int chunk, int rank, int lane) {
  std::int64_t num_rows = 0;
  for (int before = lane; before < chunk; before += kWarp) {
    const std::uint64_t* word = &kernel.published[static_cast<std::int64_t>(before) * kernel.num_ranks + rank];
    std::uint64_t seen = ptx::load_relaxed_device(word);
    while (static_cast<std::uint32_t>(seen >> 32) != epoch) seen = ptx::load_relaxed_device(word);
    num_rows += static_cast<std::uint32_t>(seen);
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) num_rows += __shfl_down_sync(kAllLanes, num_rows, distance);
  return num_rows;
}

// One of the sums, to the matrices that it belongs to: rows sent to a rank to all of them, an expert's to that of its rank.
__device__ void tell_sum(const Kernel& kernel, int idx, std::int32_t sum) {
  if (idx >= kernel.num_ranks) {
    const int rank = (idx - kernel.num_ranks) / kernel.max_local_experts;
    const int expert = (idx - kernel.num_ranks) % kernel.max_local_experts;
    std::int32_t* const matrix = kernel.expert_counts[rank];
    if (matrix != nullptr) matrix[static_cast<std::int64_t>(kernel.rank) * kernel.max_local_experts + expert] = sum;
    return;
  }
#pragma unroll 1
  for (int rank = 0; rank < kernel.num_ranks; ++rank) {
    std::int32_t* const matrix = kernel.rank_counts[rank];
    if (matrix != nullptr) matrix[static_cast<std::int64_t>(kernel.rank) * kernel.num_ranks + idx] = sum;
  }
}

__global__ void __launch_bounds__(kNumWarps* kWarp, 1) count_tokens(const __grid_constant__ Kernel kernel) {
  extern __shared__ std::uint32_t shared[];
  std::uint32_t* bitmaps = shared;  // [R, kChunkWords]: which tokens of the chunk visit the rank
  auto* before = reinterpret_cast<std::int64_t*>(shared + static_cast<std::int64_t>(kernel.num_ranks) * kChunkWords);  // [R]
  const Lanes lanes(kernel.top_k);
  auto* visits = reinterpret_cast<Visit*>(before + kernel.num_ranks);                        // [kChunkTokens, lanes.width]
  auto* counts_here = reinterpret_cast<std::int32_t*>(visits + kChunkTokens * lanes.width);  // [R, L], if counts_apart
  const int num_counts = kernel.num_ranks * kernel.max_local_experts;
  __shared__ int taken;
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int num_chunks = static_cast<int>((kernel.num_tokens + kChunkTokens - 1) / kChunkTokens);
  const std::uint32_t epoch = kernel.progress->epoch + 1;
  prefetch_placement(kernel.placement);
  do {
    if (thread == 0) taken = static_cast<int>(atomicAdd(&kernel.progress->next_chunk, 1U));
    for (int i = thread; i < kernel.num_ranks * kChunkWords; i += static_cast<int>(blockDim.x)) bitmaps[i] = 0;
    for (int i = thread; kernel.counts_apart && i < num_counts; i += static_cast<int>(blockDim.x)) counts_here[i] = 0;
    __syncthreads();
    const int chunk = taken;
    if (chunk >= num_chunks) break;
    const std::int64_t first = static_cast<std::int64_t>(chunk) * kChunkTokens;
    const int num_here = static_cast<int>(min(static_cast<std::int64_t>(kChunkTokens), kernel.num_tokens - first));
#pragma unroll 1
    for (int round = 0; round < lanes.num_rounds(); round += kRoundsAtOnce) {
      Replica replicas[kRoundsAtOnce];
      find_replicas(kernel, first, num_here, lanes, round, replicas);
#pragma unroll
      for (int i = 0; i < kRoundsAtOnce; ++i) {
        const int in_chunk = lanes.in_chunk(round + i);
        const Visit visit = route_tokens(kernel, first, num_here, in_chunk, replicas[i], lanes, bitmaps, counts_here);
        if (in_chunk < num_here) visits[in_chunk * lanes.width + lanes.k] = visit;
      }
    }
    __syncthreads();
    for (int rank = thread; rank < kernel.num_ranks; rank += static_cast<int>(blockDim.x)) {
      const int num_rows = count_bits(bitmaps + rank * kChunkWords, kChunkTokens);
      ptx::store_relaxed_device(&kernel.published[static_cast<std::int64_t>(chunk) * kernel.num_ranks + rank],
                                static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint32_t>(num_rows));
      if (num_rows > 0) atomicAdd(&kernel.sums[rank], num_rows);
    }
    for (int i = thread; kernel.counts_apart && i < num_counts; i += static_cast<int>(blockDim.x)) {
      if (counts_here[i] > 0) atomicAdd(&kernel.sums[kernel.num_ranks + i], counts_here[i]);
    }
    for (int rank = thread / kWarp; rank < kernel.num_ranks; rank += kNumWarps) {
      const std::int64_t num_rows = rows_before(kernel, epoch, chunk, rank, lane);
      if (lane == 0) before[rank] = num_rows;
    }
    __syncthreads();
#pragma unroll 1
    for (int round = 0; round < lanes.num_rounds(); ++round) {
      const int in_chunk = lanes.in_chunk(round);
      if (in_chunk >= num_here) break;
      const Visit visit = visits[in_chunk * lanes.width + lanes.k];
      if (visit.ordinal < 0) continue;
      kernel.row[(first + in_chunk) * kernel.max_fan_out + visit.ordinal] =
          before[visit.rank] + count_bits(bitmaps + visit.rank * kChunkWords, in_chunk);
    }
    __syncthreads();  // the bitmaps are used again
  } while (num_chunks > static_cast<int>(gridDim.x));  // otherwise one for each block is all there are

  // The last block tells everybody the sums, and leaves the workspace as it was.
  if (thread == 0) {
    __threadfence();
    is_last = atomicAdd(&kernel.progress->num_done, 1U) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  const CallTurn call_turn = load_turn(kernel.handshake);
  const bool tells = kernel.rank_counts != nullptr && call_turn.may_work();
  const int num_sums = kernel.num_ranks + num_counts;
  for (int i = thread; i < num_sums; i += static_cast<int>(blockDim.x)) {
    const std::int32_t sum = __ldcg(&kernel.sums[i]);
    kernel.sums[i] = 0;
    if (tells) tell_sum(kernel, i, sum);
  }
  if (thread == 0) *kernel.progress = {epoch, 0, 0};
  __syncthreads();
  if (thread < kWarp) post_entry_by_warp(kernel.handshake, call_turn, lane);
}

std::int64_t chunks_of(std::int64_t num_tokens) { return (num_tokens + kChunkTokens - 1) / kChunkTokens; }

constexpr std::size_t kProgressBytes = 256;
static_assert(sizeof(Progress) <= kProgressBytes);

std::size_t sums_bytes(int num_ranks, int max_local_experts) {
  const auto num_sums = static_cast<std::size_t>(num_ranks) * (1 + static_cast<std::size_t>(max_local_experts));
  return (num_sums * sizeof(std::int32_t) + 255) / 256 * 256;
}

const RegisteredKernels kKernels{address_of(count_tokens)};

}  // namespace

std::size_t count_workspace_bytes(std::int64_t max_tokens, int num_ranks, int max_local_experts) {
  return kProgressBytes + sums_bytes(num_ranks, max_local_experts) +
         static_cast<std::size_t>(chunks_of(max_tokens) * num_ranks) * sizeof(std::uint64_t);
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
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  kernel.ordinal = args.ordinal;
  kernel.local_idx = args.local_idx;
  kernel.rank_counts = args.rank_counts;
  kernel.expert_counts = args.expert_counts;
  kernel.handshake = args.handshake;
  kernel.progress = reinterpret_cast<Progress*>(args.workspace);
  kernel.sums = reinterpret_cast<std::int32_t*>(args.workspace + kProgressBytes);
  kernel.published =
      reinterpret_cast<std::uint64_t*>(args.workspace + kProgressBytes + sums_bytes(args.num_ranks, args.max_local_experts));

  int shared_bytes = args.num_ranks * static_cast<int>(kChunkWords * sizeof(std::uint32_t) + sizeof(std::int64_t)) +
                     kChunkTokens * Lanes::width_of(kernel.top_k) * static_cast<int>(sizeof(Visit));
  const std::int64_t count_bytes =
      std::int64_t{args.num_ranks} * args.max_local_experts * static_cast<std::int64_t>(sizeof(std::int32_t));
  kernel.counts_apart = shared_bytes + count_bytes <= kMaxSharedBytes;
  if (kernel.counts_apart) shared_bytes += static_cast<int>(count_bytes);
  const int num_blocks = static_cast<int>(std::clamp<std::int64_t>(chunks_of(kernel.num_tokens), 1, launch.num_sms));
  count_tokens<<<num_blocks, kNumWarps * kWarp, shared_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "count");
}

}  // namespace tokenyard::cuda
