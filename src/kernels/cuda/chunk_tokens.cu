#include "base/cuda_error.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 1024;

__global__ void __launch_bounds__(kNumThreads, 1) find_chunk_tokens(const __grid_constant__ ChunkTokensArgs args) {
  __shared__ int first[kMaxChunks];  // token with a row in the chunk
  __shared__ int last[kMaxChunks];
  if (threadIdx.x < kMaxChunks) {
    first[threadIdx.x] = static_cast<int>(args.num_tokens);
    last[threadIdx.x] = -1;
  }
  __syncthreads();
  const std::int64_t num_entries = args.num_tokens * args.max_fan_out;
  for (std::int64_t entry = threadIdx.x; entry < num_entries; entry += kNumThreads) {
    const std::int64_t token = entry / args.max_fan_out;
    const std::int32_t rank = args.destination[entry];
    if (entry % args.max_fan_out >= args.fan_out[token] || rank == args.rank) continue;
    const SentBlock& block = args.sent[rank];
    const std::int64_t in_block = args.row[entry] - block.first_row;
    int chunk = static_cast<int>(in_block * args.num_chunks / block.num_rows);
    while (in_block < chunk_begin(block.num_rows, chunk, args.num_chunks)) --chunk;
    while (in_block >= chunk_begin(block.num_rows, chunk + 1, args.num_chunks)) ++chunk;
    atomicMin(&first[chunk], static_cast<int>(token));
    atomicMax(&last[chunk], static_cast<int>(token));
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  int begin = static_cast<int>(args.num_tokens);
  args.begin[args.num_chunks] = begin;
  for (int chunk = args.num_chunks - 1; chunk >= 0; --chunk) args.begin[chunk] = begin = min(begin, first[chunk]);
  args.begin[0] = 0;
  int end = 0;
  for (int chunk = 0; chunk < args.num_chunks; ++chunk) args.end[chunk] = end = max(end, last[chunk] + 1);
}

const RegisteredKernels kKernels{address_of(find_chunk_tokens)};

}  // namespace

void chunk_tokens(const ChunkTokensArgs& args, const Launch& launch) {
  find_chunk_tokens<<<1, kNumThreads, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "chunk_tokens");
}

}  // namespace tokenyard::cuda
