// Every block has a run of (row, k) pairs. The first launch counts each run's pairs per expert; in the second, every block adds
// the runs before its own, so that it knows where its pairs begin in each group, and places them chunk by chunk.

#include "base/cuda_error.hpp"
#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 256;  // one pair of a chunk each
constexpr int kChunkWords = kNumThreads / 32;

struct Run {
  std::int64_t begin;
  std::int64_t end;
};

__device__ std::int64_t num_pairs_of(const GroupByExpertArgs& args) { return args.source_offsets[args.num_ranks] * args.top_k; }

__device__ Run run_of(const GroupByExpertArgs& args) {
  const std::int64_t num_pairs = num_pairs_of(args);
  return {num_pairs * blockIdx.x / gridDim.x, num_pairs * (blockIdx.x + 1) / gridDim.x};
}

__global__ void __launch_bounds__(kNumThreads) count_pairs(const __grid_constant__ GroupByExpertArgs args) {
  std::int32_t* counts = args.workspace + static_cast<std::int64_t>(blockIdx.x) * args.num_local_experts;
  for (int expert = threadIdx.x; expert < args.num_local_experts; expert += kNumThreads) counts[expert] = 0;
  __syncthreads();
  const Run run = run_of(args);
  for (std::int64_t pair = run.begin + threadIdx.x; pair < run.end; pair += kNumThreads) {
    if (args.topk_idx[pair] >= 0) atomicAdd(&counts[args.topk_idx[pair]], 1);
  }
}

// What a block knows of an expert's group.
struct Group {
  std::int64_t offset;
  std::int64_t num_kept;
  std::int64_t num_placed;  // by the runs and chunks before; counts pairs that are not kept, too
};

__device__ void measure_groups(const GroupByExpertArgs& args, Group* groups) {
  const bool padded = args.layout == Layout::kExpertPadded;
  for (int expert = threadIdx.x; expert < args.num_local_experts; expert += kNumThreads) {
    std::int64_t num_before = 0;
    std::int64_t num_all = 0;
    for (unsigned block = 0; block < gridDim.x; ++block) {
      if (block == blockIdx.x) num_before = num_all;
      num_all += args.workspace[static_cast<std::int64_t>(block) * args.num_local_experts + expert];
    }
    const std::int64_t num_kept = padded ? min(num_all, args.capacity) : num_all;
    groups[expert] = {0, num_kept, num_before};
    if (blockIdx.x != 0) continue;
    args.expert_counts[expert] = num_kept;
    args.expert_source_offsets[expert * (args.num_ranks + 1) + args.num_ranks] = num_kept;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    std::int64_t offset = 0;
    for (int expert = 0; expert < args.num_local_experts; ++expert) {
      groups[expert].offset = offset;
      if (blockIdx.x == 0) args.expert_offsets[expert] = offset;
      offset += padded ? args.capacity : (groups[expert].num_kept + args.alignment - 1) / args.alignment * args.alignment;
    }
    if (blockIdx.x == 0) args.expert_offsets[args.num_local_experts] = offset;
  }
  __syncthreads();
}

__device__ int count_bits(const std::uint32_t* bitmap, int num_bits) {
  int num_set = 0;
  for (int word = 0; word * 32 < num_bits; ++word) {
    const int rest = num_bits - word * 32;
    num_set += __popc(bitmap[word] & (rest >= 32 ? 0xffffffffU : (1U << rest) - 1U));
  }
  return num_set;
}

// Where the rows of each source begin in the groups, for those whose first pair lies in [first, end). Rows of later ranks than
// have any begin at the end.
__device__ void note_sources(const GroupByExpertArgs& args, const Group* groups, const std::uint32_t* bitmaps,
                             std::int64_t first, std::int64_t end) {
  for (int source = 0; source < args.num_ranks; ++source) {
    const std::int64_t begin = args.source_offsets[source] * args.top_k;
    if (begin < first || begin >= end) continue;
    for (int expert = threadIdx.x; expert < args.num_local_experts; expert += kNumThreads) {
      const std::int64_t num_before =
          groups[expert].num_placed + count_bits(bitmaps + expert * kChunkWords, static_cast<int>(begin - first));
      args.expert_source_offsets[expert * (args.num_ranks + 1) + source] = min(num_before, groups[expert].num_kept);
    }
  }
}

__global__ void __launch_bounds__(kNumThreads) place_pairs(const __grid_constant__ GroupByExpertArgs args) {
  extern __shared__ __align__(8) std::byte shared[];
  auto* groups = reinterpret_cast<Group*>(shared);                                    // [L]
  auto* bitmaps = reinterpret_cast<std::uint32_t*>(groups + args.num_local_experts);  // [L, kChunkWords]: the chunk's pairs
  const int thread = static_cast<int>(threadIdx.x);
  measure_groups(args, groups);
  if (blockIdx.x == 0) {
    for (int source = 0; source < args.num_ranks; ++source) {
      if (args.source_offsets[source] != args.source_offsets[args.num_ranks]) continue;
      for (int expert = thread; expert < args.num_local_experts; expert += kNumThreads) {
        args.expert_source_offsets[expert * (args.num_ranks + 1) + source] = groups[expert].num_kept;
      }
    }
  }
  const Run run = run_of(args);
  for (std::int64_t first = run.begin; first < run.end; first += kNumThreads) {
    for (int i = thread; i < args.num_local_experts * kChunkWords; i += kNumThreads) bitmaps[i] = 0;
    __syncthreads();
    const std::int64_t pair = first + thread;
    const std::int32_t expert = pair < run.end ? args.topk_idx[pair] : -1;
    if (expert >= 0) atomicOr(&bitmaps[expert * kChunkWords + thread / 32], 1U << (thread % 32));
    __syncthreads();
    note_sources(args, groups, bitmaps, first, min(first + kNumThreads, run.end));
    if (expert >= 0) {
      const std::int64_t place = groups[expert].num_placed + count_bits(bitmaps + expert * kChunkWords, thread);
      args.expanded_row[pair] = place < groups[expert].num_kept ? groups[expert].offset + place : -1;
    } else if (pair < run.end) {
      args.expanded_row[pair] = -1;
    }
    __syncthreads();
    for (int i = thread; i < args.num_local_experts; i += kNumThreads) {
      groups[i].num_placed += count_bits(bitmaps + i * kChunkWords, kNumThreads);
    }
    __syncthreads();
  }
}

const RegisteredKernels kKernels{address_of(count_pairs), address_of(place_pairs)};

}  // namespace

void group_by_expert(const GroupByExpertArgs& args, const Launch& launch) {
  count_pairs<<<launch.num_sms, kNumThreads, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "group_by_expert");
  const int shared_bytes = args.num_local_experts * static_cast<int>(sizeof(Group) + kChunkWords * sizeof(std::uint32_t));
  place_pairs<<<launch.num_sms, kNumThreads, shared_bytes, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "group_by_expert");
}

}  // namespace tokenyard::cuda
