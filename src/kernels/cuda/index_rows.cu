// Both kernels are short and wait for memory most of the time: many threads, and as few dependent loads as can be.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/cuda_error.hpp"
#include "kernels/cuda/index_rows.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 1024;

__device__ std::int64_t first_of_thread() { return static_cast<std::int64_t>(blockIdx.x) * kNumThreads + threadIdx.x; }
__device__ std::int64_t num_threads_of_grid() { return static_cast<std::int64_t>(gridDim.x) * kNumThreads; }

// A window's array, the Routing's, and what fills that behind the values that have come.
struct Column {
  std::int32_t* target;
  const std::int32_t* source;
  std::int32_t filler;

  __device__ bool is_aligned() const {
    return (reinterpret_cast<std::uintptr_t>(target) | reinterpret_cast<std::uintptr_t>(source)) % sizeof(int4) == 0;
  }
};

// Copies `num_values` values of two columns, those of the first as `change` returns them, and fills the rest. What both hold at
// a place is under way together. The second may be without a target.
template <class Change>
__device__ void collect(const Column& changed, const Column& other, std::int64_t num_values, std::int64_t num_view_values,
                        Change&& change) {
  constexpr int kAtOnce = 4;
  const auto changed_at = [&](std::int64_t i) { return i < num_values ? change(changed.source[i]) : changed.filler; };
  const auto other_at = [&](std::int64_t i) { return i < num_values ? other.source[i] : other.filler; };
  const bool by_vectors = changed.is_aligned() && other.is_aligned();
  const std::int64_t num_vectors = by_vectors ? num_view_values / kAtOnce : 0;
  for (std::int64_t i = first_of_thread(); i < num_vectors; i += num_threads_of_grid()) {
    const std::int64_t first = i * kAtOnce;
    int4 values;
    int4 others{};
    if (first + kAtOnce <= num_values) {
      values = reinterpret_cast<const int4*>(changed.source)[i];
      if (other.target != nullptr) others = reinterpret_cast<const int4*>(other.source)[i];
      values = {change(values.x), change(values.y), change(values.z), change(values.w)};
    } else {
      values = {changed_at(first), changed_at(first + 1), changed_at(first + 2), changed_at(first + 3)};
      if (other.target != nullptr) others = {other_at(first), other_at(first + 1), other_at(first + 2), other_at(first + 3)};
    }
    reinterpret_cast<int4*>(changed.target)[i] = values;
    if (other.target != nullptr) reinterpret_cast<int4*>(other.target)[i] = others;
  }
  for (std::int64_t i = num_vectors * kAtOnce + first_of_thread(); i < num_view_values; i += num_threads_of_grid()) {
    changed.target[i] = changed_at(i);
    if (other.target != nullptr) other.target[i] = other_at(i);
  }
}

__device__ std::int64_t announced(const std::int32_t* announced_counts, int num_ranks, int max_local_experts, int expert) {
  std::int64_t num_rows = 0;
#pragma unroll 8
  for (int source = 0; source < num_ranks; ++source) {
    num_rows += announced_counts[static_cast<std::int64_t>(source) * max_local_experts + expert];
  }
  return num_rows;
}

// The last block to come adds what all blocks have counted.
__device__ void add_counts(const CollectRowsArgs& args, const std::int32_t* counts) {
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x);
  std::int32_t* own = args.workspace + static_cast<std::int64_t>(blockIdx.x) * args.num_local_experts;
  for (int expert = thread; expert < args.num_local_experts; expert += kNumThreads) own[expert] = counts[expert];
  __syncthreads();
  if (thread == 0) {
    // Releases the block's counts, which the barrier has put before; in the last block it acquires those of the others.
    ptx::fence_device();
    is_last = atomicAdd(&args.state->num_blocks_done, 1U) == gridDim.x - 1;
    ptx::fence_device();
  }
  __syncthreads();
  if (!is_last) return;
  for (int expert = thread; expert < args.num_local_experts; expert += kNumThreads) {
    std::int64_t num_rows = 0;
#pragma unroll 8
    for (unsigned block = 0; block < gridDim.x; ++block) {
      num_rows += __ldcg(&args.workspace[static_cast<std::int64_t>(block) * args.num_local_experts + expert]);
    }
    args.expert_counts[expert] = num_rows;
    args.expert_dropped[expert] = announced(args.announced_counts, args.num_ranks, args.max_local_experts, expert) - num_rows;
  }
  if (thread == 0) *args.state = LaunchState{};
}

__global__ void __launch_bounds__(kNumThreads, 1) collect_all(const __grid_constant__ CollectRowsArgs args) {
  extern __shared__ std::int32_t counts[];  // [L], if experts are counted
  const std::int64_t num_rows = args.all_arrive ? args.num_view_rows : args.source_offsets[args.num_ranks];
  const bool counts_here = args.expert_counts != nullptr && !args.all_arrive;
  if (counts_here) {
    for (int expert = static_cast<int>(threadIdx.x); expert < args.num_local_experts; expert += kNumThreads) counts[expert] = 0;
    __syncthreads();
  }
  // Weights by their bits, so that NaNs stay as they are; those of 0.0F are 0.
  collect({args.topk_idx, args.received_topk_idx, -1},
          {reinterpret_cast<std::int32_t*>(args.topk_weights),
           reinterpret_cast<const std::int32_t*>(args.received_topk_weights), 0},
          num_rows * args.top_k, args.num_view_rows * args.top_k, [&](std::int32_t received) {
            const bool is_local = received >= 0 && received < args.num_local_experts;
            if (counts_here && is_local) atomicAdd(&counts[received], 1);
            return is_local ? received : -1;
          });
  collect({args.source_token, args.received_source_token, -1}, {args.ordinal, args.received_ordinal, -1}, num_rows,
          args.num_view_rows, [](std::int32_t value) { return value; });
  if (counts_here) {
    __syncthreads();
    add_counts(args, counts);
    return;
  }
  if (args.expert_counts == nullptr) return;
  for (std::int64_t expert = first_of_thread(); expert < args.num_local_experts; expert += num_threads_of_grid()) {
    args.expert_counts[expert] =
        announced(args.announced_counts, args.num_ranks, args.max_local_experts, static_cast<int>(expert));
    args.expert_dropped[expert] = 0;
  }
}

__device__ void empty(const IndexExpandedArgs& args, std::int64_t expanded_row) {
  args.gather_idx[expanded_row] = -1;
  args.expanded_source_token[expanded_row] = -1;
  if (args.expanded_weights != nullptr) args.expanded_weights[expanded_row] = 0.0F;
}

// Groups have no holes, so every row is some pair's, or in the gap behind a group, or behind the last one: no thread writes
// where another does.
__global__ void __launch_bounds__(kNumThreads, 1) index_all(const __grid_constant__ IndexExpandedArgs args) {
  const std::int64_t num_pairs = args.source_offsets[args.num_ranks] * args.top_k;
  const std::int64_t num_view_pairs = args.num_view_rows * args.top_k;
  for (std::int64_t pair = first_of_thread(); pair < num_view_pairs; pair += num_threads_of_grid()) {
    const std::int64_t place = pair < num_pairs ? args.expanded_row[pair] : -1;
    if (pair >= num_pairs || place >= args.num_expanded_view_rows) args.expanded_row[pair] = -1;
    if (place < 0 || place >= args.num_expanded_view_rows) continue;
    // Pairs are fewer than 2^31, and so divide in a fraction of the time.
    const std::int64_t row = static_cast<std::uint32_t>(pair) / static_cast<std::uint32_t>(args.top_k);
    args.gather_idx[place] = static_cast<std::int32_t>(row);
    args.expanded_source_token[place] = args.source_token[row];
    if (args.expanded_weights != nullptr) args.expanded_weights[place] = args.topk_weights[pair];
  }
  // A gap to as many warps as there are for each.
  const std::int64_t num_warps = num_threads_of_grid() / kWarp;
  const std::int64_t num_parts = max(num_warps / max(args.num_local_experts, 1), std::int64_t{1});
  for (std::int64_t i = first_of_thread() / kWarp; i < args.num_local_experts * num_parts; i += num_warps) {
    const std::int64_t expert = i / num_parts;
    const std::int64_t end = min(args.expert_offsets[expert + 1], args.num_expanded_view_rows);
    const std::int64_t gap = args.expert_offsets[expert] + args.expert_counts[expert];
    for (std::int64_t row = gap + i % num_parts * kWarp + threadIdx.x % kWarp; row < end; row += num_parts * kWarp) {
      empty(args, row);
    }
  }
  for (std::int64_t row = args.expert_offsets[args.num_local_experts] + first_of_thread(); row < args.num_expanded_view_rows;
       row += num_threads_of_grid()) {
    empty(args, row);
  }
  for (std::int64_t expert = first_of_thread(); expert < args.num_local_experts; expert += num_threads_of_grid()) {
    args.expert_dropped[expert] =
        announced(args.announced_counts, args.num_ranks, args.max_local_experts, static_cast<int>(expert)) -
        args.expert_counts[expert];
  }
}

int num_blocks_for(std::int64_t num_elements, const Launch& launch) {
  return static_cast<int>(std::clamp<std::int64_t>((num_elements + kNumThreads - 1) / kNumThreads, 1, launch.num_sms));
}

const RegisteredKernels kKernels{address_of(collect_all), address_of(index_all)};

}  // namespace

void collect_rows(const CollectRowsArgs& args, const Launch& launch) {
  const bool counts = args.expert_counts != nullptr && !args.all_arrive;
  const std::size_t shared_bytes = counts ? args.num_local_experts * sizeof(std::int32_t) : 0;
  const int num_blocks = num_blocks_for(args.num_view_rows * args.top_k, launch);
  collect_all<<<num_blocks, kNumThreads, shared_bytes, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "collect_rows");
}

void index_expanded(const IndexExpandedArgs& args, const Launch& launch) {
  const std::int64_t num_elements = std::max(args.num_view_rows * args.top_k, args.num_expanded_view_rows);
  index_all<<<num_blocks_for(num_elements, launch), kNumThreads, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "index_expanded");
}

}  // namespace tokenyard::cuda
