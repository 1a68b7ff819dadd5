// What sums of contributions are made of: where a token's contributions lie, and how they stream through a ring.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/ring.cuh"
#include "kernels/cuda/signals.cuh"
#include "kernels/cuda/sum.cuh"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

inline constexpr int kNumSumWarps = 24;
inline constexpr int kRingSlots = 2;  // per warp, of kNumAtOnce pieces each

// A tensor whose rows are dense.
struct Rows {
  std::byte* data;
  std::int64_t row_stride;  // bytes
  bool is_aligned;          // all rows to 16 bytes
};

struct ReduceKernel {
  std::int64_t row_bytes;
  bool as_float8;
  std::int64_t returned_row_bytes;
  RowPieces pieces;
  std::int64_t num_tokens;
  int max_fan_out;
  int num_ranks;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;
  const std::byte* const* in_place[tokenyard::kNumSlots];
  int rank;
  const std::byte* own_rows;
  const std::byte* carried_rows;
  const SentBlock* sent;
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
struct ContributionRoute {
  std::int32_t fan_out = 0;
  std::int32_t destination = -1;
  std::int64_t row = -1;
};

__device__ inline ContributionRoute load_route(const ReduceKernel& kernel, std::int64_t token, int lane) {
  ContributionRoute route;
  if (token >= kernel.num_tokens) return route;
  route.fan_out = kernel.fan_out[token];
  if (lane < kernel.max_fan_out) {
    route.destination = kernel.destination[token * kernel.max_fan_out + lane];
    route.row = kernel.row[token * kernel.max_fan_out + lane];
  }
  return route;
}

// Where a rank's contributions may stand, as far as it is known before the rank has entered. Members of their own instead of
// arrays, which would go to local memory; nothing is looked at before all has been asked for.
struct InPlaceRows {
  const PeerLine* lines = nullptr;  // the rank's; null: it takes no part
  const std::byte* in_slot_0 = nullptr;
  const std::byte* in_slot_1 = nullptr;
  SentBlock sent{};
};
static_assert(tokenyard::kNumSlots == 2);

__device__ inline InPlaceRows load_in_place(const ReduceKernel& kernel, int rank) {
  InPlaceRows rows;
  if (rank >= kernel.num_ranks || rank == kernel.rank) return rows;
  if (has_signals(kernel.handshake.signals)) rows.lines = kernel.handshake.signals.lines[rank];
  if (kernel.in_place[0] != nullptr) rows.in_slot_0 = kernel.in_place[0][rank];
  if (kernel.in_place[1] != nullptr) rows.in_slot_1 = kernel.in_place[1][rank];
  if (kernel.carried_rows != nullptr) rows.sent = kernel.sent[rank];
  return rows;
}

// Where the contributions of `rank` can be read, or null. Only once its `enter` has come.
__device__ inline const std::byte* in_place_of(const ReduceKernel& kernel, int rank, const InPlaceRows& rows) {
  if (rank == kernel.rank) return kernel.own_rows;
  const Signals& signals = kernel.handshake.signals;
  int slot = 0;
  if (has_signals(signals)) {
    if (rows.lines == nullptr) return nullptr;
    const std::uint64_t call = call_of(signals, rank);
    if (kernel.carried_rows != nullptr && carries_rows(call)) {
      return kernel.carried_rows + (rows.sent.staged_row - rows.sent.first_row) * kernel.row_bytes;
    }
    slot = in_place_slot(call);
  }
  if (slot == 0) return rows.in_slot_0;
  return slot == 1 ? rows.in_slot_1 : nullptr;
}

// Out of line: it is needed where there are more ranks than lanes, and would take registers from the loops in which it stands.
static __device__ __noinline__ const std::byte* find_in_place(const ReduceKernel& kernel, int rank) {
  return in_place_of(kernel, rank, load_in_place(kernel, rank));
}

// `in_place_of_lane`: of the rank of the lane's number; most groups are no larger than a warp.
__device__ inline const std::byte* contribution_of(const ReduceKernel& kernel, const ContributionRoute& route,
                                                   std::int64_t token, const std::byte* in_place_of_lane, int lane) {
  const bool is_there = lane < route.fan_out && route.row >= 0;
  const auto address =
      __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(in_place_of_lane), is_there ? route.destination % kWarp : 0);
  if (!is_there) return nullptr;
  const auto* in_place = reinterpret_cast<const std::byte*>(address);
  if (route.destination >= kWarp) in_place = find_in_place(kernel, route.destination);
  if (in_place != nullptr) return in_place + route.row * kernel.row_bytes;
  return kernel.returned_rows + (token * kernel.max_fan_out + lane) * kernel.returned_row_bytes;
}

// Goes through the pieces of a warp's run, token after token.
struct Cursor {
  std::int32_t token = 0;
  int piece = 0;
  std::int32_t num_left = 0;                // pieces, this one included
  const std::byte* contribution = nullptr;  // of this lane to the token, or null
  unsigned contributors = 0;                // lanes that have one
  ContributionRoute next;                   // of the next token, fetched ahead
  InPlaceRows rows_of_lane;
  const std::byte* in_place_of_lane = nullptr;

  // Like begin_run(), this needs nothing that the peers say.
  __device__ Cursor(const ReduceKernel& kernel, int lane) : rows_of_lane(load_in_place(kernel, lane)) {}

  // The warp's share of these tokens. Runs of equal length, but for one piece, so that all warps end together; they may begin
  // in the middle of a row. Pieces are fewer than 2^32, of 2 KiB each.
  __device__ void begin_run(const ReduceKernel& kernel, std::int64_t first_token, std::int64_t end_token, int lane) {
    const unsigned num_warps = gridDim.x * (blockDim.x / kWarp);
    const unsigned warp = threadIdx.x / kWarp * gridDim.x + blockIdx.x;
    const auto num_pieces = static_cast<unsigned>(kernel.pieces.num);
    const unsigned num_all = static_cast<unsigned>(end_token - first_token) * num_pieces;
    const unsigned rest = num_all % num_warps;
    const unsigned begin = num_all / num_warps * warp + min(warp, rest);
    num_left = static_cast<std::int32_t>(num_all / num_warps + (warp < rest ? 1 : 0));
    token = static_cast<std::int32_t>(first_token + begin / num_pieces);
    piece = static_cast<int>(begin % num_pieces);
    next = load_route(kernel, token, lane);
  }

  // Once, before the first token: when the peers have entered.
  __device__ void find_rows(const ReduceKernel& kernel, int lane) {
    if (lane < kernel.num_ranks) in_place_of_lane = in_place_of(kernel, lane, rows_of_lane);
  }

  // Once before the first piece of a run, and then by advance().
  __device__ void enter_token(const ReduceKernel& kernel, int lane) {
    contribution = contribution_of(kernel, next, token, in_place_of_lane, lane);
    contributors = __ballot_sync(kAllLanes, contribution != nullptr);
    next = load_route(kernel, token + 1, lane);
  }

  __device__ void advance(const ReduceKernel& kernel, int lane) {
    --num_left;
    if (++piece < kernel.pieces.num) return;
    piece = 0;
    ++token;
    enter_token(kernel, lane);
  }
};

template <DataType kType>
__device__ void store_piece(const ReduceKernel& kernel, WarpSum<kType>& sum, std::int64_t token, int piece, int lane) {
  using Sum = WarpSum<kType>;
  const int num_bytes = kernel.pieces.bytes_of(piece);
  const std::int64_t first = static_cast<std::int64_t>(piece) * kPieceBytes;
  if (num_bytes == kPieceBytes && kernel.num_biases == 0 && kernel.output.is_aligned) {
    std::byte* output = kernel.output.data + token * kernel.output.row_stride + first + Sum::offset(0, lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) ptx::store_row(output + Sum::offset(i, 0), Vector<kType>::encode(sum.numbers[i]));
    return;
  }
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
}

// Of one (token, k) that this rank has given: what came back for it.
__device__ inline void return_weight_to(const ReduceKernel& kernel, std::int64_t pair) {
  const std::int64_t token = pair / kernel.top_k;
  const std::int32_t ordinal = kernel.ordinal[pair];
  const bool came_back = ordinal >= 0 && kernel.row[token * kernel.max_fan_out + ordinal] >= 0;
  std::byte* weight = kernel.weights + token * kernel.weights_token_stride + pair % kernel.top_k * kernel.weights_k_stride;
  *reinterpret_cast<float*>(weight) = came_back ? kernel.returned_weights[pair] : 0.0F;
}

__device__ inline void reduce_weights(const ReduceKernel& kernel) {
  if (kernel.weights == nullptr) return;
  const std::int64_t num_pairs = kernel.num_tokens * kernel.top_k;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
#pragma unroll 1
  for (std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; pair < num_pairs; pair += stride) {
    return_weight_to(kernel, pair);
  }
}

// Sums of tokens' contributions, for stream_sums(). `Tokens` says where the pieces are, as Cursor does.
template <DataType kType, class Tokens>
class TokenSums {
 public:
  struct alignas(16) Slot {
    std::int32_t token;
    std::int32_t piece;
    std::int32_t num_bytes;  // of each contribution
    std::int16_t num_contributions;
    bool is_last;  // of its piece
  };

  __device__ TokenSums(const ReduceKernel& kernel, Tokens* tokens) : kernel_(kernel), tokens_(*tokens) {}

  __device__ bool is_there() const { return tokens_.num_left > 0; }
  __device__ int piece() const { return tokens_.piece; }
  __device__ int piece_bytes() const { return kernel_.pieces.bytes_of(tokens_.piece); }
  __device__ unsigned contributors() const { return tokens_.contributors; }
  __device__ const std::byte* contribution() const { return tokens_.contribution; }
  __device__ void advance(int lane) { tokens_.advance(kernel_, lane); }

  __device__ void describe(Slot* slot, int num_bytes, unsigned taken, bool is_last, int lane) const {
    if (lane != 0) return;
    *slot = {tokens_.token, tokens_.piece, num_bytes, static_cast<std::int16_t>(__popc(taken)), is_last};
  }

  __device__ void add(WarpSum<kType>& sum, const Slot& slot, const std::byte* pieces, int lane) const {
    add_pieces<kType>(pieces, slot.num_contributions, slot.num_bytes, lane,
                      [&](int i, int, const uint4& bits) { sum.add(i, bits); });
  }

  __device__ void store(WarpSum<kType>& sum, const Slot& slot, int lane) const {
    store_piece<kType>(kernel_, sum, slot.token, slot.piece, lane);
  }

 private:
  const ReduceKernel& kernel_;
  Tokens& tokens_;
};

// Warps of a block, each with a ring.
inline int num_sum_warps(const Device& device) {
  constexpr int kStaticBytes = 2048;  // room for what the kernels keep besides
  return std::clamp((device.max_shared_bytes - kStaticBytes) / ring_bytes(kRingSlots), 1, kNumSumWarps);
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

inline ReduceKernel reduce_kernel_of(const ReduceArgs& args) {
  ReduceKernel kernel{};
  kernel.row_bytes = static_cast<std::int64_t>(args.row_bytes);
  kernel.as_float8 = args.as_float8;
  kernel.returned_row_bytes = static_cast<std::int64_t>(args.as_float8 ? args.returned_row_bytes : args.row_bytes);
  kernel.pieces = pieces_of_row(kernel.row_bytes);
  kernel.num_tokens = args.num_tokens;
  kernel.max_fan_out = args.max_fan_out;
  kernel.num_ranks = args.num_ranks;
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  for (int slot = 0; slot < tokenyard::kNumSlots; ++slot) kernel.in_place[slot] = args.in_place[slot];
  kernel.rank = args.rank;
  kernel.own_rows = args.own_rows;
  kernel.carried_rows = args.carried_rows;
  kernel.sent = args.sent;
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

}  // namespace tokenyard::cuda
