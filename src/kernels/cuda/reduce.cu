// Every warp sums a run of pieces of rows, whose contributions stream through a ring of slots in shared memory far ahead of the
// sums. FP8 rows the lanes load themselves.

#include "base/cuda_error.hpp"
#include "kernels/cuda/contributions.cuh"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumWarpsOfFloat8 = 16;  // which need more registers

template <DataType kType, bool kInBulk>
__global__ void __launch_bounds__(kNumSumWarps* kWarp, 1) sum_contributions(const __grid_constant__ ReduceKernel kernel) {
  extern __shared__ __align__(128) std::byte rings[];
  using Sums = TokenSums<kType, Cursor>;
  __shared__ typename Sums::Slot slots[kNumSumWarps][kRingSlots];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const CallTurn call_turn = load_turn(kernel.handshake);
  Cursor cursor(kernel, lane);
  cursor.begin_run(kernel, 0, kernel.num_tokens, lane);
  post_entry(kernel.handshake, call_turn);
  RingOf<kType, kRingSlots, kInBulk> ring(rings + warp * ring_bytes(kRingSlots), true, lane);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) {
    if constexpr (kInBulk) let_load_in_bulk();
    cursor.find_rows(kernel, lane);
    cursor.enter_token(kernel, lane);
    Sums sums(kernel, &cursor);
    stream_sums<kType>(ring, sums, slots[warp], lane);
    reduce_weights(kernel);
  }
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

// What of a lane's vector comes as FP8: as many codes as it has elements, and the scale of their block.
template <DataType kType>
struct Float8Vector {
  static constexpr int kNumWords = Vector<kType>::kNumElements / 4;
  std::uint32_t codes[kNumWords];
  float scale;

  __device__ void load(const std::byte* codes_address, const float* scale_address) {
    if constexpr (kNumWords == 2) {
      const auto words = *reinterpret_cast<const uint2*>(codes_address);
      codes[0] = words.x;
      codes[1] = words.y;
    } else {
      codes[0] = *reinterpret_cast<const std::uint32_t*>(codes_address);
    }
    scale = *scale_address;
  }

  // Every value times its scale is rounded before it is added.
  __device__ void add_to(float* numbers) const {
#pragma unroll
    for (int word = 0; word < kNumWords; ++word) {
      float values[4];
      decode_float8(codes[word], values);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float product = values[i] * scale;
        numbers[4 * word + i] += product;
      }
    }
  }
};

template <DataType kType>
__device__ void add_float8_rows(const ReduceKernel& kernel, WarpSum<kType>& sum, const Cursor& cursor, int lane) {
  constexpr int kElementBytes = static_cast<int>(size_of(kType));
  constexpr int kLaneElements = Vector<kType>::kNumElements;
  constexpr int kWarpElements = kWarp * kLaneElements;  // from a lane's vector to its next; whole blocks
  const std::int64_t num_elements = kernel.row_bytes / kElementBytes;
  const std::int64_t first =
      static_cast<std::int64_t>(cursor.piece) * (kPieceBytes / kElementBytes) + static_cast<std::int64_t>(lane) * kLaneElements;
  const int num_bytes = kernel.pieces.bytes_of(cursor.piece);
  for (unsigned rest = cursor.contributors; rest != 0;) {
    Float8Vector<kType> values[kNumAtOnce][4];
    bool is_there[kNumAtOnce];
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      is_there[j] = rest != 0;
      const std::byte* row = address_of_lane(cursor.contribution, take_lane(&rest));
      const std::byte* codes = row + first;
      const auto* scales = reinterpret_cast<const float*>(row + num_elements) + first / kScaleBlock;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!is_there[j] || WarpSum<kType>::offset(i, lane) >= num_bytes) continue;
        values[j][i].load(codes + i * kWarpElements, scales + i * (kWarpElements / kScaleBlock));
      }
    }
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (is_there[j] && WarpSum<kType>::offset(i, lane) < num_bytes) values[j][i].add_to(sum.numbers[i]);
      }
    }
  }
}

template <DataType kType>
__global__ void __launch_bounds__(kNumWarpsOfFloat8* kWarp, 1) reduce_float8(const __grid_constant__ ReduceKernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const CallTurn call_turn = load_turn(kernel.handshake);
  Cursor cursor(kernel, lane);
  cursor.begin_run(kernel, 0, kernel.num_tokens, lane);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) cursor.find_rows(kernel, lane);
  cursor.enter_token(kernel, lane);
  WarpSum<kType> sum;
  sum.clear();
  for (; is_well && cursor.num_left > 0; cursor.advance(kernel, lane)) {
    add_float8_rows<kType>(kernel, sum, cursor, lane);
    store_piece<kType>(kernel, sum, cursor.token, cursor.piece, lane);
    sum.clear();
  }
  if (is_well) reduce_weights(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

template <DataType kType>
void launch_reduce(const ReduceKernel& kernel, const Launch& launch) {
  if (kernel.as_float8) {
    if constexpr (kType != DataType::kFloat64) {
      reduce_float8<kType><<<launch.num_sms, kNumWarpsOfFloat8 * kWarp, 0, launch.stream>>>(kernel);
    }
  } else {
    const int num_warps = num_sum_warps(current_device());
    const auto sum = uses_bulk_copies(launch) ? sum_contributions<kType, true> : sum_contributions<kType, false>;
    sum<<<launch.num_sms, num_warps * kWarp, num_warps * ring_bytes(kRingSlots), launch.stream>>>(kernel);
  }
  check_cuda(cudaGetLastError(), "reduce");
}

template <DataType kType>
RegisteredKernels registered() {
  return {address_of(sum_contributions<kType, true>), address_of(sum_contributions<kType, false>)};
}

const RegisteredKernels kKernels[] = {
    registered<DataType::kFloat16>(),
    registered<DataType::kBFloat16>(),
    registered<DataType::kFloat32>(),
    registered<DataType::kFloat64>(),
    {address_of(reduce_float8<DataType::kFloat16>), address_of(reduce_float8<DataType::kBFloat16>),
     address_of(reduce_float8<DataType::kFloat32>)}};

}  // namespace

void reduce(const ReduceArgs& args, const Launch& launch) {
  if (args.as_float8 && args.dtype == DataType::kFloat64) {
    throw Error(ErrorCode::kInvalidArgument, "rows of type float64 cannot return as float8_e4m3: make them float32");
  }
  const ReduceKernel kernel = reduce_kernel_of(args);
  with_sum_type(args.dtype, [&]<DataType kType>() { launch_reduce<kType>(kernel, launch); });
}

}  // namespace tokenyard::cuda
