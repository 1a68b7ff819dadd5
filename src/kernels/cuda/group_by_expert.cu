// Every block has a run of (row, k) pairs, of which every warp has a part. The first launch counts each run's pairs per expert;
// in the second, every block adds the runs before its own and counts its warps' parts, so that each warp knows where its pairs
// begin in each group, and places them.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/warp.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kMaxWarps = 32;

struct Run {
  std::int64_t begin;
  std::int64_t end;

  __device__ Run part(int idx, int num_parts) const {
    return {begin + (end - begin) * idx / num_parts, begin + (end - begin) * (idx + 1) / num_parts};
  }
};

__device__ Run run_of_block(const GroupByExpertArgs& args) {
  return Run{0, args.source_offsets[args.num_ranks] * args.top_k}.part(static_cast<int>(blockIdx.x),
                                                                       static_cast<int>(gridDim.x));
}

// Adds to `counts`, in shared memory, what thread `idx` of those that share the run finds in it.
__device__ void count(const GroupByExpertArgs& args, const Run& run, std::int32_t* counts, int idx, int num_threads) {
#pragma unroll 4
  for (std::int64_t pair = run.begin + idx; pair < run.end; pair += num_threads) {
    const std::int32_t expert = args.topk_idx[pair];
    if (expert >= 0) atomicAdd(&counts[expert], 1);
  }
}

__global__ void __launch_bounds__(kMaxWarps* kWarp) count_pairs(const __grid_constant__ GroupByExpertArgs args) {
  extern __shared__ __align__(8) std::byte shared[];
  auto* counts = reinterpret_cast<std::int32_t*>(shared);  // [L]
  const auto thread = static_cast<int>(threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x);
  for (int expert = thread; expert < args.num_local_experts; expert += num_threads) counts[expert] = 0;
  __syncthreads();
  count(args, run_of_block(args), counts, thread, num_threads);
  __syncthreads();
  std::int32_t* total = args.workspace + static_cast<std::int64_t>(blockIdx.x) * args.num_local_experts;
  for (int expert = thread; expert < args.num_local_experts; expert += num_threads) total[expert] = counts[expert];
}

struct Group {
  std::int64_t offset;
  std::int64_t num_kept;
};

// By one warp: where each group begins, and the last one ends.
__device__ void place_groups(const GroupByExpertArgs& args, Group* groups, int lane) {
  const bool padded = args.layout == Layout::kExpertPadded;
  std::int64_t offset = 0;
  for (int first = 0; first < args.num_local_experts; first += kWarp) {
    const int expert = first + lane;
    std::int64_t num_rows = 0;
    if (expert < args.num_local_experts) {
      num_rows = padded ? args.capacity : (groups[expert].num_kept + args.alignment - 1) / args.alignment * args.alignment;
    }
    const std::int64_t end = offset + sum_up_to_lane(num_rows, lane);
    if (expert < args.num_local_experts) {
      groups[expert].offset = end - num_rows;
      if (blockIdx.x == 0) args.expert_offsets[expert] = end - num_rows;
    }
    offset = __shfl_sync(kAllLanes, end, kWarp - 1);
  }
  if (blockIdx.x == 0 && lane == 0) args.expert_offsets[args.num_local_experts] = offset;
}

// Makes what the warps have counted the number of pairs before each warp's part, those that are not kept, too.
__device__ void measure_groups(const GroupByExpertArgs& args, Group* groups, std::int32_t* counts, int num_warps) {
  const bool padded = args.layout == Layout::kExpertPadded;
  for (auto expert = static_cast<int>(threadIdx.x); expert < args.num_local_experts; expert += static_cast<int>(blockDim.x)) {
    std::int32_t num_before = 0;
    std::int64_t num_all = 0;
#pragma unroll 8
    for (unsigned block = 0; block < gridDim.x; ++block) {
      const std::int32_t num_pairs = args.workspace[static_cast<std::int64_t>(block) * args.num_local_experts + expert];
      if (block < blockIdx.x) num_before += num_pairs;
      num_all += num_pairs;
    }
    for (int warp = 0; warp < num_warps; ++warp) {
      std::int32_t& num_placed = counts[warp * args.num_local_experts + expert];
      const std::int32_t num_pairs = num_placed;
      num_placed = num_before;
      num_before += num_pairs;
    }
    const std::int64_t num_kept = padded ? min(num_all, args.capacity) : num_all;
    groups[expert].num_kept = num_kept;
    if (blockIdx.x != 0) continue;
    args.expert_counts[expert] = num_kept;
    args.expert_source_offsets[expert * (args.num_ranks + 1) + args.num_ranks] = num_kept;
  }
  __syncthreads();
  if (threadIdx.x < kWarp) place_groups(args, groups, static_cast<int>(threadIdx.x));
  __syncthreads();
}

// The sources' first pairs that a warp comes to, in their order.
class Sources {
 public:
  __device__ Sources(const GroupByExpertArgs& args, std::int64_t first_pair) : args_(args) {
    int end = args.num_ranks;
    while (source_ < end) {
      const int middle = (source_ + end) / 2;
      if (args.source_offsets[middle] * args.top_k < first_pair) {
        source_ = middle + 1;
      } else {
        end = middle;
      }
    }
    look_up();
  }

  __device__ std::int64_t next_first_pair() const { return first_pair_; }

  // The next source's rows begin in the groups behind `num_placed` pairs of each.
  __device__ void note(const Group* groups, const std::int32_t* num_placed, int lane) {
    for (int expert = lane; expert < args_.num_local_experts; expert += kWarp) {
      args_.expert_source_offsets[expert * (args_.num_ranks + 1) + source_] =
          min(static_cast<std::int64_t>(num_placed[expert]), groups[expert].num_kept);
    }
    ++source_;
    look_up();
  }

 private:
  // All offsets up to the last one, N, which is no source's.
  __device__ void look_up() { first_pair_ = args_.source_offsets[source_] * args_.top_k; }

  const GroupByExpertArgs& args_;
  int source_ = 0;
  std::int64_t first_pair_;
};

// By a warp, which knows how many pairs of each group stand before its part, and counts on.
__device__ void place(const GroupByExpertArgs& args, const Run& part, const Group* groups, std::int32_t* num_placed, int lane) {
  Sources sources(args, part.begin);
  for (std::int64_t first = part.begin; first < part.end;) {
    while (sources.next_first_pair() == first) sources.note(groups, num_placed, lane);
    const std::int64_t end = min(min(first + kWarp, part.end), sources.next_first_pair());
    const std::int64_t pair = first + lane;
    const std::int32_t expert = pair < end ? args.topk_idx[pair] : -1;
    const unsigned alike = __match_any_sync(kAllLanes, expert);
    const int num_before = __popc(alike & ((1U << lane) - 1U));
    const std::int64_t place = expert >= 0 ? num_placed[expert] + num_before : 0;
    __syncwarp();
    if (expert >= 0 && num_before == 0) num_placed[expert] += __popc(alike);
    __syncwarp();
    if (pair < end) {
      args.expanded_row[pair] = expert >= 0 && place < groups[expert].num_kept ? groups[expert].offset + place : -1;
    }
    first = end;
  }
}

__global__ void __launch_bounds__(kMaxWarps* kWarp) place_pairs(const __grid_constant__ GroupByExpertArgs args) {
  extern __shared__ __align__(8) std::byte shared[];
  const auto thread = static_cast<int>(threadIdx.x);
  const auto num_threads = static_cast<int>(blockDim.x);
  const int num_warps = num_threads / kWarp;
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  auto* groups = reinterpret_cast<Group*>(shared);                                  // [L]
  auto* counts = reinterpret_cast<std::int32_t*>(groups + args.num_local_experts);  // [num_warps, L]
  std::int32_t* own_counts = counts + warp * args.num_local_experts;
  for (int expert = lane; expert < args.num_local_experts; expert += kWarp) own_counts[expert] = 0;
  __syncwarp();
  const Run part = run_of_block(args).part(warp, num_warps);
  count(args, part, own_counts, lane, kWarp);
  __syncthreads();
  measure_groups(args, groups, counts, num_warps);
  place(args, part, groups, own_counts, lane);
  if (blockIdx.x != 0) return;
  // Nobody comes to ranks that have sent nothing and whose successors have not, either: their rows begin at the end.
  for (int source = 0; source < args.num_ranks; ++source) {
    if (args.source_offsets[source] != args.source_offsets[args.num_ranks]) continue;
    for (int expert = thread; expert < args.num_local_experts; expert += num_threads) {
      args.expert_source_offsets[expert * (args.num_ranks + 1) + source] = groups[expert].num_kept;
    }
  }
}

const RegisteredKernels kKernels{address_of(count_pairs), address_of(place_pairs)};

}  // namespace

void group_by_expert(const GroupByExpertArgs& args, const Launch& launch) {
  const auto counts_bytes = args.num_local_experts * static_cast<int>(sizeof(std::int32_t));
  const auto groups_bytes = args.num_local_experts * static_cast<int>(sizeof(Group));
  count_pairs<<<launch.num_sms, kMaxWarps * kWarp, counts_bytes, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "group_by_expert");
  const int room = current_device().max_shared_bytes - groups_bytes;
  const int num_warps = std::clamp(room / std::max(counts_bytes, 1), 1, kMaxWarps);
  place_pairs<<<launch.num_sms, num_warps * kWarp, groups_bytes + num_warps * counts_bytes, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "group_by_expert");
}

}  // namespace tokenyard::cuda
