#include "kernels/cuda/reduce_chunks.hpp"

#include "base/cuda_error.hpp"
#include "kernels/cuda/contributions.cuh"
#include "kernels/cuda/copy_word.cuh"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

struct ReduceChunksKernel {
  ReduceKernel reduce;
  const std::int32_t* begin;
  int num_chunks;
  const std::uint64_t* arrivals;
  CopyWord copies;
};

// Whether `peer`, whose `enter` has come, carries its rows.
__device__ bool does_carry(const Signals& signals, int peer) {
  return peer != signals.rank && signals.lines[peer] != nullptr && carries_rows(call_of(signals, peer));
}

// By a warp; the same answer for all lanes.
__device__ bool await_chunk(const ReduceChunksKernel& kernel, int chunk, std::uint64_t turn, int lane) {
  constexpr Patience kPatience{.nap_nanoseconds = 200};
  const Signals& signals = kernel.reduce.handshake.signals;
  bool has_come = true;
  if (lane == 0) delay_point(DelayPlace::kWait, signals.rank, chunk, turn);
#pragma unroll 1
  for (int peer = lane; peer < signals.num_ranks && has_come; peer += kWarp) {
    if (!does_carry(signals, peer)) continue;
    has_come =
        await_word(signals, kernel.arrivals + chunk * signals.num_ranks + peer, peer, turn, Phase::kCombineRows, kPatience);
  }
  __syncwarp();  // what one lane has awaited all may read
  let_load_in_bulk();
  return __all_sync(kAllLanes, has_come);
}

// By one warp, when this rank has summed: until nobody writes to this rank's memory or reads it any more.
__device__ bool await_others(const ReduceChunksKernel& kernel, std::uint64_t turn, int lane) {
  const Signals& signals = kernel.reduce.handshake.signals;
  if (!await_chunk(kernel, kernel.num_chunks - 1, turn, lane)) return false;  // also if no token has waited for it
  bool is_well = true;
#pragma unroll 1
  for (int peer = lane; peer < signals.num_ranks && is_well; peer += kWarp) {
    if (!does_carry(signals, peer)) is_well = await(signals, peer, LineWord::kDone, turn, Phase::kCombineRead);
  }
  return __all_sync(kAllLanes, is_well);
}

// Goes through a warp's share of one chunk's tokens after the other.
class ChunkCursor : public Cursor {
 public:
  bool is_well = true;

  __device__ ChunkCursor(const ReduceChunksKernel& kernel, std::uint64_t turn, int lane)
      : Cursor(kernel.reduce, lane), kernel_(kernel), turn_(turn) {
    find_rows(kernel.reduce, lane);
    enter_chunk(lane);
  }

  __device__ void advance(const ReduceKernel& reduce, int lane) {
    Cursor::advance(reduce, lane);
    if (num_left == 0) enter_chunk(lane);
  }

 private:
  // The next one that has something for this warp.
  __device__ void enter_chunk(int lane) {
    for (; num_left == 0 && next_chunk_ < kernel_.num_chunks; ++next_chunk_) {
      begin_run(kernel_.reduce, kernel_.begin[next_chunk_], kernel_.begin[next_chunk_ + 1], lane);
      if (num_left > 0) is_well = await_chunk(kernel_, next_chunk_, turn_, lane);
      if (!is_well) {
        num_left = 0;
        return;
      }
    }
    enter_token(kernel_.reduce, lane);
  }

  const ReduceChunksKernel& kernel_;
  std::uint64_t turn_;
  int next_chunk_ = 0;
};

template <DataType kType>
__global__ void __launch_bounds__(kNumSumWarps* kWarp, 1) sum_chunks(const __grid_constant__ ReduceChunksKernel kernel) {
  extern __shared__ __align__(128) std::byte rings[];
  using Sums = TokenSums<kType, ChunkCursor>;
  __shared__ typename Sums::Slot slots[kNumSumWarps][kRingSlots];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const CallTurn call_turn = load_turn(kernel.reduce.handshake);
  RingOf<kType, kRingSlots, true> ring(rings + warp * ring_bytes(kRingSlots), true, lane);
  bool is_well = await_entry(kernel.reduce.handshake, call_turn);
  if (is_well) {
    ChunkCursor tokens(kernel, call_turn.turn, lane);
    Sums sums(kernel.reduce, &tokens);
    stream_sums<kType>(ring, sums, slots[warp], lane);
    is_well = tokens.is_well;
    if (is_well) reduce_weights(kernel.reduce);
  }
  if (blockIdx.x == 0 && warp == 0) {
    is_well = is_well && await_others(kernel, call_turn.turn, lane);
    if (lane == 0) {
      is_well = await_copies(kernel.reduce.handshake.signals, kernel.copies, Phase::kCombineRows) && is_well;
    }
  }
  leave_kernel(kernel.reduce.handshake, call_turn, is_well, kernel.reduce.state);
}

template <DataType kType>
void launch_sum_chunks(const ReduceChunksKernel& kernel, const Launch& launch) {
  const int num_warps = num_sum_warps(current_device());
  sum_chunks<kType><<<launch.num_sms, num_warps * kWarp, num_warps * ring_bytes(kRingSlots), launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "reduce_chunks");
}

const RegisteredKernels kKernels{address_of(sum_chunks<DataType::kFloat16>), address_of(sum_chunks<DataType::kBFloat16>),
                                 address_of(sum_chunks<DataType::kFloat32>), address_of(sum_chunks<DataType::kFloat64>)};

}  // namespace

void reduce_chunks(const ReduceChunksArgs& args, const Launch& launch) {
  const ReduceChunksKernel kernel{reduce_kernel_of(args.reduce), args.begin, args.num_chunks, args.arrivals, args.copies};
  with_sum_type(args.reduce.dtype, [&]<DataType kType>() { launch_sum_chunks<kType>(kernel, launch); });
}

}  // namespace tokenyard::cuda
