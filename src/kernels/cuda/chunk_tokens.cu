#include "base/cuda_error.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 1024;
constexpr int kNumAtOnce = 4;  // entries per thread whose loads are under way together

__global__ void __launch_bounds__(kNumThreads, 1) find_chunk_tokens(const __grid_constant__ ChunkTokensArgs args) {
  __shared__ int first[Chunks::kMaxChunks];  // token with a row in the chunk
  if (threadIdx.x < Chunks::kMaxChunks) first[threadIdx.x] = static_cast<int>(args.num_tokens);
  __syncthreads();
  const std::int64_t num_entries = args.num_tokens * args.max_fan_out;
  for (std::int64_t base = 0; base < num_entries; base += kNumAtOnce * kNumThreads) {
    std::int32_t fan_out[kNumAtOnce];
    std::int32_t rank[kNumAtOnce];
    std::int64_t row[kNumAtOnce];
#pragma unroll
    for (int i = 0; i < kNumAtOnce; ++i) {
      const std::int64_t entry = base + i * kNumThreads + threadIdx.x;
      fan_out[i] = 0;
      if (entry >= num_entries) continue;
      fan_out[i] = args.fan_out[entry / args.max_fan_out];
      rank[i] = args.destination[entry];
      row[i] = args.row[entry];
    }
#pragma unroll
    for (int i = 0; i < kNumAtOnce; ++i) {
      const std::int64_t entry = base + i * kNumThreads + threadIdx.x;
      int chunk = -1;
      if (entry % args.max_fan_out < fan_out[i] && rank[i] != args.rank) {
        const SentBlock& block = args.sent[rank[i]];
        chunk = args.chunks.chunk_of(row[i] - block.first_row, block.num_rows);
      }
      // Tokens ascend with the lanes: of all that have found a row in the same chunk, the lowest speaks.
      const unsigned same = __match_any_sync(kAllLanes, chunk);
      const bool speaks = static_cast<int>(threadIdx.x % 32) == __ffs(static_cast<int>(same)) - 1;
      if (chunk >= 0 && speaks) atomicMin(&first[chunk], static_cast<int>(entry / args.max_fan_out));
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  int begin = static_cast<int>(args.num_tokens);
  args.begin[args.chunks.num_chunks] = begin;
  for (int chunk = args.chunks.num_chunks - 1; chunk >= 0; --chunk) args.begin[chunk] = begin = min(begin, first[chunk]);
  args.begin[0] = 0;
}

const RegisteredKernels kKernels{address_of(find_chunk_tokens)};

}  // namespace

void chunk_tokens(const ChunkTokensArgs& args, const Launch& launch) {
  find_chunk_tokens<<<1, kNumThreads, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "chunk_tokens");
}

}  // namespace tokenyard::cuda
