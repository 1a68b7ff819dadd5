// Every warp sums a run of pieces of rows. On Hopper its contributions stream through a ring of slots in shared memory, which
// bulk loads fill far ahead of the sums; before Hopper, and of FP8 rows, the lanes load them themselves.

#include <cstdlib>
#include <string>

#include "base/cuda_error.hpp"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/sum.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffff;
constexpr int kNumWarps = 24;
constexpr int kNumWarpsOfThreads = 16;    // of the kernel without bulk copies, which needs more registers
constexpr int kPieceBytes = 4 * 32 * 16;  // of a row: four vectors per lane
constexpr int kRingSlots = 2;             // per warp, of kNumAtOnce pieces each
constexpr int kNumAtOnce = 2;             // contributions that are loaded, and then added, together

// A tensor whose rows are dense.
struct Rows {
  std::byte* data;
  std::int64_t row_stride;  // bytes
  bool is_aligned;          // all rows to 16 bytes
};

struct Kernel {
  std::int64_t row_bytes;
  bool as_float8;
  std::int64_t returned_row_bytes;
  int num_pieces;  // of a row
  std::int64_t num_tokens;
  int max_fan_out;
  int num_ranks;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;
  const std::byte* const* in_place[tokenyard::kNumSlots];
  int rank;
  const std::byte* own_rows;
  const std::byte* staged_rows;
  const SentBlock* staged;
  int staged_slot;
  const std::int32_t* token_range;
  const std::byte* returned_rows;
  Rows biases[2];
  int num_biases;
  Rows output;

  int top_k;
  const std::int32_t* ordinal;
  const float* returned_weights;
  std::byte* weights;
  std::int64_t weights_token_stride;  // bytes
  std::int64_t weights_k_stride;

  Handshake handshake;
  LaunchState* state;
};

// A token's contributions as the warp's lanes hold them: lane o that of ordinal o.
struct Route {
  std::int32_t fan_out = 0;
  std::int32_t destination = -1;
  std::int64_t row = -1;
};

// The tokens that are summed.
struct TokenRange {
  std::int64_t begin;
  std::int64_t end;

  __device__ explicit TokenRange(const Kernel& kernel)
      : begin(kernel.token_range == nullptr ? 0 : kernel.token_range[0]),
        end(kernel.token_range == nullptr ? kernel.num_tokens : kernel.token_range[1]) {}
};

__device__ Route load_route(const Kernel& kernel, std::int64_t token, int lane) {
  Route route;
  if (token >= kernel.num_tokens) return route;
  route.fan_out = kernel.fan_out[token];
  if (lane < kernel.max_fan_out) {
    route.destination = kernel.destination[token * kernel.max_fan_out + lane];
    route.row = kernel.row[token * kernel.max_fan_out + lane];
  }
  return route;
}

// Where the contributions of `rank` can be read, or null. Only once its `enter` has come.
__device__ const std::byte* in_place_of(const Kernel& kernel, int rank) {
  if (rank == kernel.rank) return kernel.own_rows;
  const PeerLine* const* lines = kernel.handshake.signals.lines;
  int slot = 0;
  if (lines != nullptr) slot = lines[rank] == nullptr ? -1 : __ldcg(&lines[kernel.rank][rank].in_place_slot);
  if (slot < 0 || kernel.in_place[slot] == nullptr) return nullptr;
  if (kernel.staged_rows != nullptr && slot == kernel.staged_slot) {
    const SentBlock& block = kernel.staged[rank];
    return kernel.staged_rows + (block.staged_row - block.first_row) * kernel.row_bytes;
  }
  return kernel.in_place[slot][rank];
}

// `in_place_of_lane`: of the rank of the lane's number; most groups are no larger than a warp.
__device__ const std::byte* contribution_of(const Kernel& kernel, const Route& route, std::int64_t token,
                                            const std::byte* in_place_of_lane, int lane) {
  const bool is_there = lane < route.fan_out && route.row >= 0;
  const auto address =
      __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(in_place_of_lane), is_there ? route.destination % kWarp : 0);
  if (!is_there) return nullptr;
  const auto* in_place = reinterpret_cast<const std::byte*>(address);
  if (route.destination >= kWarp) in_place = in_place_of(kernel, route.destination);
  if (in_place != nullptr) return in_place + route.row * kernel.row_bytes;
  return kernel.returned_rows + (token * kernel.max_fan_out + lane) * kernel.returned_row_bytes;
}

// Goes through the pieces of a warp's run, token after token.
struct Cursor {
  std::int64_t token;
  int piece;
  std::int64_t num_left;          // pieces, this one included
  const std::byte* contribution;  // of this lane to the token, or null
  unsigned contributors;          // lanes that have one
  Route next;                     // of the next token, fetched ahead
  const std::byte* in_place_of_lane = nullptr;

  __device__ Cursor(const Kernel& kernel, int lane) {
    // Runs of equal length, so that all warps end together; they may begin in the middle of a row.
    const std::int64_t num_warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarp);
    const std::int64_t warp = static_cast<std::int64_t>(threadIdx.x / kWarp) * gridDim.x + blockIdx.x;
    const TokenRange range(kernel);
    const std::int64_t num_all = (range.end - range.begin) * kernel.num_pieces;
    const std::int64_t begin = num_all * warp / num_warps;
    num_left = num_all * (warp + 1) / num_warps - begin;
    token = range.begin + begin / kernel.num_pieces;
    piece = static_cast<int>(begin % kernel.num_pieces);
    next = load_route(kernel, token, lane);
  }

  // Once, before the first token: when the peers have entered.
  __device__ void find_rows(const Kernel& kernel, int lane) {
    if (lane < kernel.num_ranks) in_place_of_lane = in_place_of(kernel, lane);
  }

  // Once before the first piece, and then by advance().
  __device__ void enter_token(const Kernel& kernel, int lane) {
    contribution = contribution_of(kernel, next, token, in_place_of_lane, lane);
    contributors = __ballot_sync(kAllLanes, contribution != nullptr);
    next = load_route(kernel, token + 1, lane);
  }

  __device__ void advance(const Kernel& kernel, int lane) {
    --num_left;
    if (++piece < kernel.num_pieces) return;
    piece = 0;
    ++token;
    enter_token(kernel, lane);
  }
};

__device__ int piece_bytes(const Kernel& kernel, int piece) {
  return static_cast<int>(
      min(static_cast<std::int64_t>(kPieceBytes), kernel.row_bytes - static_cast<std::int64_t>(piece) * kPieceBytes));
}

template <DataType kType>
__device__ void finish_piece(const Kernel& kernel, WarpSum<kType>& sum, std::int64_t token, int piece, int lane) {
  using Sum = WarpSum<kType>;
  const int num_bytes = piece_bytes(kernel, piece);
  const std::int64_t first = static_cast<std::int64_t>(piece) * kPieceBytes;
#pragma unroll 1
  for (int bias = 0; bias < kernel.num_biases; ++bias) {
    const Rows& rows = kernel.biases[bias];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int offset = Sum::offset(i, lane);
      if (offset >= num_bytes) continue;
      sum.add(i, load_anywhere<kType>(rows.data + token * rows.row_stride + first + offset, rows.is_aligned));
    }
  }
  std::byte* output = kernel.output.data + token * kernel.output.row_stride + first;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int offset = Sum::offset(i, lane);
    if (offset < num_bytes) {
      store_anywhere<kType>(output + offset, Vector<kType>::encode(sum.numbers[i]), kernel.output.is_aligned);
    }
  }
  sum.clear();
}

__device__ void reduce_weights(const Kernel& kernel) {
  if (kernel.weights == nullptr) return;
  const TokenRange range(kernel);
  const std::int64_t num_pairs = range.end * kernel.top_k;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
#pragma unroll 1
  for (std::int64_t pair = range.begin * kernel.top_k + static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       pair < num_pairs; pair += stride) {
    const std::int64_t token = pair / kernel.top_k;
    const std::int32_t ordinal = kernel.ordinal[pair];
    const bool came_back = ordinal >= 0 && kernel.row[token * kernel.max_fan_out + ordinal] >= 0;
    std::byte* weight = kernel.weights + token * kernel.weights_token_stride + pair % kernel.top_k * kernel.weights_k_stride;
    *reinterpret_cast<float*>(weight) = came_back ? kernel.returned_weights[pair] : 0.0F;
  }
}

// What a slot holds: up to kNumAtOnce contributions to a piece; none where a token has none.
struct alignas(16) Slot {
  std::int32_t token;
  std::int32_t piece;
  std::int32_t num_bytes;  // of each
  std::int16_t num_contributions;
  bool is_last;  // of its piece
};

#if __CUDA_ARCH__ >= 900

// Numbers from 0 on, as places in a ring and turns of that place.
struct RingPlace {
  int idx = 0;
  std::uint32_t parity = 0;
  __device__ void advance() {
    if (++idx < kRingSlots) return;
    idx = 0;
    parity ^= 1U;
  }
};

template <DataType kType>
__global__ void __launch_bounds__(kNumWarps* kWarp, 1) reduce_in_bulk(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ ptx::Barrier barriers_of[kNumWarps][kRingSlots];
  __shared__ Slot slots_of[kNumWarps][kRingSlots];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Cursor cursor(kernel, lane);
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  ptx::Barrier* barriers = barriers_of[warp];
  Slot* slots = slots_of[warp];
  std::byte* ring = shared + static_cast<std::int64_t>(warp) * kRingSlots * kNumAtOnce * kPieceBytes;
  if (lane < kRingSlots) ptx::barrier_init(&barriers[lane], 1);
  ptx::barrier_init_fence();
  __syncwarp();
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) cursor.find_rows(kernel, lane);
  cursor.enter_token(kernel, lane);
  ptx::fence_bulk();
  if (!is_well) cursor.num_left = 0;

  WarpSum<kType> sum;
  sum.clear();
  unsigned to_load = cursor.contributors;
  int num_under_way = 0;
  RingPlace load_place;
  for (RingPlace sum_place;; sum_place.advance()) {
#pragma unroll 1
    for (; cursor.num_left > 0 && num_under_way < kRingSlots; ++num_under_way) {
      const unsigned rest = to_load & (to_load - 1);
      const unsigned after = rest & (rest - 1);
      const bool is_first = lane == __ffs(static_cast<int>(to_load)) - 1;
      const bool is_second = lane == __ffs(static_cast<int>(rest)) - 1;
      const int num_bytes = piece_bytes(kernel, cursor.piece);
      if (lane == 0) {
        const int num_contributions = (to_load != 0 ? 1 : 0) + (rest != 0 ? 1 : 0);
        slots[load_place.idx] = {static_cast<std::int32_t>(cursor.token), cursor.piece, num_bytes,
                                 static_cast<std::int16_t>(num_contributions), after == 0};
        ptx::barrier_arrive_expecting(&barriers[load_place.idx], num_contributions * num_bytes);
      }
      if (is_first || is_second) {
        ptx::bulk_load(ring + (load_place.idx * kNumAtOnce + (is_second ? 1 : 0)) * kPieceBytes,
                       cursor.contribution + static_cast<std::int64_t>(cursor.piece) * kPieceBytes, num_bytes,
                       &barriers[load_place.idx]);
      }
      load_place.advance();
      to_load = after;
      if (after == 0) {
        cursor.advance(kernel, lane);
        to_load = cursor.contributors;
      }
    }
    if (num_under_way == 0) break;
    __syncwarp();
    while (!ptx::barrier_is_past(&barriers[sum_place.idx], sum_place.parity)) {
    }
    const Slot slot = slots[sum_place.idx];
    const std::byte* pieces = ring + sum_place.idx * kNumAtOnce * kPieceBytes;
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      if (j >= slot.num_contributions) break;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int offset = WarpSum<kType>::offset(i, lane);
        if (offset < slot.num_bytes) sum.add(i, *reinterpret_cast<const uint4*>(pieces + j * kPieceBytes + offset));
      }
    }
    __syncwarp();  // all have read the slot before it is filled again
    --num_under_way;
    if (slot.is_last) finish_piece<kType>(kernel, sum, slot.token, slot.piece, lane);
  }
  if (is_well) reduce_weights(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

#else

template <DataType kType>
__global__ void reduce_in_bulk(const __grid_constant__ Kernel) {}  // never launched before Hopper

#endif

// The address that the lane of the lowest bit of `rest` holds; takes the bit out.
__device__ const std::byte* take_contribution(const Cursor& cursor, unsigned* rest) {
  const int contributor = max(__ffs(static_cast<int>(*rest)) - 1, 0);
  *rest &= *rest - 1;
  const auto address = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(cursor.contribution), contributor);
  return reinterpret_cast<const std::byte*>(address);
}

template <DataType kType>
__global__ void __launch_bounds__(kNumWarps* kWarp, 1) reduce_async(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Slot slots_of[kNumWarps][kRingSlots];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Cursor cursor(kernel, lane);
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  Slot* slots = slots_of[warp];
  std::byte* ring = shared + static_cast<std::int64_t>(warp) * kRingSlots * kNumAtOnce * kPieceBytes;
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) cursor.find_rows(kernel, lane);
  cursor.enter_token(kernel, lane);
  if (!is_well) cursor.num_left = 0;

  WarpSum<kType> sum;
  sum.clear();
  unsigned to_load = cursor.contributors;
  int num_under_way = 0;
  int load_place = 0;
  for (int sum_place = 0;; sum_place ^= 1) {
#pragma unroll 1
    for (; cursor.num_left > 0 && num_under_way < kRingSlots; ++num_under_way) {
      const int num_bytes = piece_bytes(kernel, cursor.piece);
      const int num_contributions = min(__popc(to_load), kNumAtOnce);
      const std::int64_t first = static_cast<std::int64_t>(cursor.piece) * kPieceBytes;
#pragma unroll
      for (int j = 0; j < kNumAtOnce; ++j) {
        if (j >= num_contributions) break;
        const std::byte* row = take_contribution(cursor, &to_load) + first;
        std::byte* stage = ring + (load_place * kNumAtOnce + j) * kPieceBytes;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int offset = WarpSum<kType>::offset(i, lane);
          if (offset < num_bytes) ptx::async_load_row(stage + offset, row + offset);
        }
      }
      ptx::async_commit();
      if (lane == 0) {
        slots[load_place] = {static_cast<std::int32_t>(cursor.token), cursor.piece, num_bytes,
                             static_cast<std::int16_t>(num_contributions), to_load == 0};
      }
      load_place ^= 1;
      if (to_load == 0) {
        cursor.advance(kernel, lane);
        to_load = cursor.contributors;
      }
    }
    if (num_under_way == 0) break;
    __syncwarp();
    if (num_under_way == kRingSlots) {
      ptx::async_wait<kRingSlots - 1>();
    } else {
      ptx::async_wait<0>();
    }
    const Slot slot = slots[sum_place];
    const std::byte* pieces = ring + sum_place * kNumAtOnce * kPieceBytes;
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      if (j >= slot.num_contributions) break;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int offset = WarpSum<kType>::offset(i, lane);
        if (offset < slot.num_bytes) sum.add(i, *reinterpret_cast<const uint4*>(pieces + j * kPieceBytes + offset));
      }
    }
    __syncwarp();  // all have read the slot before it is filled again
    --num_under_way;
    if (slot.is_last) finish_piece<kType>(kernel, sum, slot.token, slot.piece, lane);
  }
  if (is_well) reduce_weights(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

template <DataType kType>
__device__ void add_rows(const Kernel& kernel, WarpSum<kType>& sum, const Cursor& cursor, int lane) {
  const int num_bytes = piece_bytes(kernel, cursor.piece);
  const std::int64_t first = static_cast<std::int64_t>(cursor.piece) * kPieceBytes;
  for (unsigned rest = cursor.contributors; rest != 0;) {
    uint4 values[kNumAtOnce][4];
    bool is_there[kNumAtOnce];
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      is_there[j] = rest != 0;
      const std::byte* row = take_contribution(cursor, &rest);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int offset = WarpSum<kType>::offset(i, lane);
        if (is_there[j] && offset < num_bytes) values[j][i] = ptx::load_row(row + first + offset);
      }
    }
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (is_there[j] && WarpSum<kType>::offset(i, lane) < num_bytes) sum.add(i, values[j][i]);
      }
    }
  }
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
__device__ void add_float8_rows(const Kernel& kernel, WarpSum<kType>& sum, const Cursor& cursor, int lane) {
  constexpr int kElementBytes = static_cast<int>(size_of(kType));
  constexpr int kLaneElements = Vector<kType>::kNumElements;
  constexpr int kWarpElements = kWarp * kLaneElements;  // from a lane's vector to its next; whole blocks
  const std::int64_t num_elements = kernel.row_bytes / kElementBytes;
  const std::int64_t first =
      static_cast<std::int64_t>(cursor.piece) * (kPieceBytes / kElementBytes) + static_cast<std::int64_t>(lane) * kLaneElements;
  const int num_bytes = piece_bytes(kernel, cursor.piece);
  for (unsigned rest = cursor.contributors; rest != 0;) {
    Float8Vector<kType> values[kNumAtOnce][4];
    bool is_there[kNumAtOnce];
#pragma unroll
    for (int j = 0; j < kNumAtOnce; ++j) {
      is_there[j] = rest != 0;
      const std::byte* row = take_contribution(cursor, &rest);
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

template <DataType kType, bool kFloat8>
__global__ void __launch_bounds__(kNumWarpsOfThreads* kWarp, 1) reduce_by_threads(const __grid_constant__ Kernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Cursor cursor(kernel, lane);
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) cursor.find_rows(kernel, lane);
  cursor.enter_token(kernel, lane);
  WarpSum<kType> sum;
  sum.clear();
  for (; is_well && cursor.num_left > 0; cursor.advance(kernel, lane)) {
    if constexpr (kFloat8) {
      add_float8_rows<kType>(kernel, sum, cursor, lane);
    } else {
      add_rows<kType>(kernel, sum, cursor, lane);
    }
    finish_piece<kType>(kernel, sum, cursor.token, cursor.piece, lane);
  }
  if (is_well) reduce_weights(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

template <class Tensor>
Rows rows_of(const Tensor& tensor) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  Rows rows{};
  rows.data = static_cast<std::byte*>(const_cast<void*>(static_cast<const void*>(tensor.data)));
  rows.row_stride = tensor.strides[0] * element_bytes;
  rows.is_aligned = (reinterpret_cast<std::uintptr_t>(rows.data) | static_cast<std::uintptr_t>(rows.row_stride)) % 16 == 0;
  return rows;
}

Kernel prepare(const ReduceArgs& args) {
  Kernel kernel{};
  kernel.row_bytes = static_cast<std::int64_t>(args.row_bytes);
  kernel.as_float8 = args.as_float8;
  kernel.returned_row_bytes = static_cast<std::int64_t>(args.as_float8 ? args.returned_row_bytes : args.row_bytes);
  kernel.num_pieces = static_cast<int>((args.row_bytes + kPieceBytes - 1) / kPieceBytes);
  kernel.num_tokens = args.num_tokens;
  kernel.max_fan_out = args.max_fan_out;
  kernel.num_ranks = args.num_ranks;
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  for (int slot = 0; slot < tokenyard::kNumSlots; ++slot) kernel.in_place[slot] = args.in_place[slot];
  kernel.rank = args.rank;
  kernel.own_rows = args.own_rows;
  kernel.staged_rows = args.staged_rows;
  kernel.staged = args.staged;
  kernel.staged_slot = args.staged_slot;
  kernel.token_range = args.token_range;
  kernel.returned_rows = args.returned_rows;
  for (const ConstTensorView& bias : args.biases) {
    if (bias) kernel.biases[kernel.num_biases++] = rows_of(bias);
  }
  kernel.output = rows_of(args.output);
  kernel.top_k = args.top_k;
  kernel.ordinal = args.ordinal;
  kernel.returned_weights = args.returned_weights;
  if (args.weights) {
    kernel.weights = static_cast<std::byte*>(args.weights.data);
    kernel.weights_token_stride = args.weights.strides[0] * static_cast<std::int64_t>(sizeof(float));
    kernel.weights_k_stride = args.weights.strides[1] * static_cast<std::int64_t>(sizeof(float));
  }
  kernel.handshake = args.handshake;
  kernel.state = args.state;
  return kernel;
}

template <DataType kType>
void launch_reduce(const Kernel& kernel, const Launch& launch) {
  constexpr int kRingBytes = kNumWarps * kRingSlots * kNumAtOnce * kPieceBytes;
  constexpr int kStaticBytes = 2048;  // room for what the kernel keeps besides
  const Device device = current_device();
  if (kernel.as_float8) {
    if constexpr (kType != DataType::kFloat64) {
      reduce_by_threads<kType, true><<<launch.num_sms, kNumWarpsOfThreads * kWarp, 0, launch.stream>>>(kernel);
    }
  } else if (launch.plain_copies || !device.has_bulk_copies || device.max_shared_bytes < kRingBytes + kStaticBytes) {
    reduce_by_threads<kType, false><<<launch.num_sms, kNumWarpsOfThreads * kWarp, 0, launch.stream>>>(kernel);
  } else {
    if (getenv("TY_ASYNC"))
      reduce_async<kType><<<launch.num_sms, kNumWarps * kWarp, kRingBytes, launch.stream>>>(kernel);
    else
      reduce_in_bulk<kType><<<launch.num_sms, kNumWarps * kWarp, kRingBytes, launch.stream>>>(kernel);
  }
  check_cuda(cudaGetLastError(), "reduce");
}

const RegisteredKernels kKernels{address_of(reduce_async<DataType::kBFloat16>),
                                 address_of(reduce_in_bulk<DataType::kFloat16>),
                                 address_of(reduce_in_bulk<DataType::kBFloat16>),
                                 address_of(reduce_in_bulk<DataType::kFloat32>),
                                 address_of(reduce_in_bulk<DataType::kFloat64>),
                                 address_of(reduce_by_threads<DataType::kFloat16, false>),
                                 address_of(reduce_by_threads<DataType::kBFloat16, false>),
                                 address_of(reduce_by_threads<DataType::kFloat32, false>),
                                 address_of(reduce_by_threads<DataType::kFloat64, false>),
                                 address_of(reduce_by_threads<DataType::kFloat16, true>),
                                 address_of(reduce_by_threads<DataType::kBFloat16, true>),
                                 address_of(reduce_by_threads<DataType::kFloat32, true>)};

}  // namespace

void reduce(const ReduceArgs& args, const Launch& launch) {
  if (args.as_float8 && args.dtype == DataType::kFloat64) {
    throw Error(ErrorCode::kInvalidArgument, "rows of type float64 cannot return as float8_e4m3: make them float32");
  }
  const Kernel kernel = prepare(args);
  switch (args.dtype) {
    case DataType::kFloat16: return launch_reduce<DataType::kFloat16>(kernel, launch);
    case DataType::kBFloat16: return launch_reduce<DataType::kBFloat16>(kernel, launch);
    case DataType::kFloat32: return launch_reduce<DataType::kFloat32>(kernel, launch);
    case DataType::kFloat64: return launch_reduce<DataType::kFloat64>(kernel, launch);
    default:
      throw Error(ErrorCode::kInvalidArgument, std::string("rows of type ") + to_string(args.dtype) + " cannot be summed");
  }
}

}  // namespace tokenyard::cuda
