// The first blocks fold what this rank has computed for others, source by source in step, so that all homes get their first
// tokens first; when they have done so they sum as well. In the other blocks warps draw halves of tokens in order and wait for
// the segments in which these tokens' contributions come.

#include <algorithm>
#include <climits>

#include "base/cuda_error.hpp"
#include "kernels/cuda/announcer.cuh"
#include "kernels/cuda/contribute.cuh"
#include "kernels/cuda/contributions.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/fold_reduce.hpp"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kRowsPerPiece = 2;  // that a warp folds at a time

// How contributions are made.
enum class Fold {
  kCopy,
  kSum,
  kSumInBulk,
};

// Where contributions are sums themselves, the kernel needs more registers: fewer warps then, each with a longer ring.
template <Fold kFold>
struct WarpsOf {
  static constexpr int kMaxNum = kFold == Fold::kCopy ? 20 : 16;
  static constexpr int kNumSlots = kFold == Fold::kCopy ? 2 : 3;
  static constexpr int kRingBytes = ring_bytes(kNumSlots);
};
constexpr unsigned kNapNanoseconds = 100;

struct FoldReduceKernel {
  FoldKernel fold;
  ReduceKernel reduce;
  Segments segments;
  const SentBlock* sent;
  bool folds_own;  // this rank's contributions to its own tokens take the same way as the others'
  int num_fold_blocks;
};

// What is announced: all that goes to homes that take part.
struct FoldedBlocks {
  const FoldReduceKernel& kernel;
  __device__ bool is_wanted(int peer) const {
    return peer == kernel.reduce.handshake.signals.rank ? kernel.folds_own : kernel.fold.windows[peer] != nullptr;
  }
  __device__ std::int64_t num_rows(int peer) const {
    return kernel.fold.source_offsets[peer + 1] - kernel.fold.source_offsets[peer];
  }
};

// The pieces of rows that a warp draws, and says in its queue that they have been sent.
class FoldedPieces {
 public:
  struct Piece {
    int source;
    int segment;
    std::uint32_t num_rows;
    std::int64_t first_row;  // that this rank has received
  };

  __device__ FoldedPieces(const FoldReduceKernel& kernel, SentQueue* queue, int lane)
      : kernel_(kernel),
        queue_(queue),
        pieces_(pieces_of_sources(kernel.fold.num_ranks, kernel.reduce.handshake.signals.rank,
                                  static_cast<int>(kSegmentRows) / kRowsPerPiece)),
        num_pieces_(pieces_.num_pieces(most_rows_of_a_source(kernel.fold.source_offsets, kernel.fold.num_ranks, lane))) {
    draw(lane);
  }

  // By all lanes. False: there are no more.
  __device__ bool next(Piece* next, int lane) {
    const FoldedBlocks blocks{kernel_};
    for (;;) {
      const std::uint32_t piece_idx = __shfl_sync(kAllLanes, drawn_, 0);
      if (piece_idx >= num_pieces_) return false;
      draw(lane);
      const SegmentPieces::Piece piece = pieces_.at(piece_idx);
      const std::int64_t num_rows = min(piece.num_rows, blocks.num_rows(piece.source) - piece.first_row);
      if (num_rows <= 0 || !blocks.is_wanted(piece.source)) continue;
      *next = {piece.source, piece.segment, static_cast<std::uint32_t>(num_rows),
               kernel_.fold.source_offsets[piece.source] + piece.first_row};
      return true;
    }
  }

  // By all lanes, behind the stores of all.
  __device__ void tell(const Piece& piece, int lane) {
    __syncwarp();
    queue_->put(lane == 0, {piece.source, piece.segment, piece.num_rows}, lane);
  }

 private:
  __device__ void draw(int lane) {
    if (lane == 0) drawn_ = atomicAdd(&kernel_.reduce.state->next_piece, 1U);
  }

  const FoldReduceKernel& kernel_;
  SentQueue* queue_;
  SegmentPieces pieces_;
  std::uint32_t num_pieces_;
  std::uint32_t drawn_ = 0;  // in lane 0
};

// By a warp.
template <DataType kType>
__device__ void copy_pieces(const FoldReduceKernel& kernel, FoldedPieces& pieces, int lane) {
  for (FoldedPieces::Piece piece; pieces.next(&piece, lane);) {
    for (std::uint32_t i = 0; i < piece.num_rows; ++i) copy_home<kType>(kernel.fold, piece.first_row + i, piece.source, lane);
    pieces.tell(piece, lane);
  }
}

// The rows of the pieces that a warp draws, for RowSums. What stands in each row is loaded while the one before is summed.
class RowsOfPieces : public FoldedRow {
 public:
  using Mark = FoldedPieces::Piece;
  bool is_end = false;
  Mark mark;

  __device__ RowsOfPieces(const FoldReduceKernel& kernel, FoldedPieces* pieces, int lane)
      : fold_(kernel.fold), pieces_(*pieces) {
    next_is_there_ = draw(lane);
    load_next(lane);
    advance(lane);
  }

  __device__ void advance(int lane) {
    is_there = next_is_there_;
    contributors = 0;
    if (!is_there) return;
    const ReceivedRow received = next_;
    mark = piece_;
    is_end = num_left_ == 1;
    if (--num_left_ == 0) next_is_there_ = draw(lane);
    load_next(lane);
    std::byte* window = fold_.windows[received.source];
    begin_row(fold_, received, window, lane);
    enter(fold_, received, window);
  }

  __device__ void end(const Mark& piece, int lane) { pieces_.tell(piece, lane); }

 private:
  // Of pieces whose contributions stay where they are, weights are sent at once.
  __device__ bool draw(int lane) {
    while (pieces_.next(&piece_, lane)) {
      num_left_ = piece_.num_rows;
      if (sends_rows(fold_, piece_.source)) return true;
      for (std::uint32_t i = 0; i < piece_.num_rows; ++i) {
        const ReceivedRow received = load_received(fold_, piece_.first_row + i, piece_.source, lane);
        begin_row(fold_, received, fold_.windows[piece_.source], lane);
      }
      pieces_.tell(piece_, lane);
    }
    return false;
  }

  __device__ void load_next(int lane) {
    if (next_is_there_) next_ = load_received(fold_, piece_.first_row + piece_.num_rows - num_left_, piece_.source, lane);
  }

  const FoldKernel& fold_;
  FoldedPieces& pieces_;
  FoldedPieces::Piece piece_;   // that the next row is of
  std::uint32_t num_left_ = 0;  // of its rows, the next one included
  bool next_is_there_ = false;
  ReceivedRow next_;
};

// Of the tokens what a warp draws, when their contributions are there. For TokenSums.
class AwaitedTokens {
 public:
  std::int32_t token = 0;
  int piece = 0;
  int num_left = 0;                         // pieces of the ticket, this one included
  const std::byte* contribution = nullptr;  // of this lane to the token, or null
  unsigned contributors = 0;                // lanes that have one
  bool is_well = true;

  // When the peers have entered.
  __device__ AwaitedTokens(const FoldReduceKernel& kernel, std::uint64_t turn, int lane) : kernel_(kernel), turn_(turn) {
    if (lane < kernel.reduce.num_ranks) {
      in_place_of_lane_ = in_place_of(kernel.reduce, lane, load_in_place(kernel.reduce, lane));
      first_row_ = kernel.sent[lane].first_row;
      announces_ = announces(lane);
      num_known_ = first_known(lane);
    }
    if (lane == 0) drawn_ = atomicAdd(next_ticket(), 2U);
    load_next(lane);
    drawn_ += 1;
    enter_next(lane);
  }

  __device__ void advance(const ReduceKernel&, int lane) {
    ++piece;
    if (--num_left == 0) enter_next(lane);
  }

 private:
  __device__ std::uint32_t* next_ticket() const { return &kernel_.reduce.state->next_ticket; }

  __device__ bool announces(int peer) const {
    return peer == kernel_.reduce.handshake.signals.rank || speaks_of_segments(kernel_.reduce.handshake.signals, peer);
  }

  // Before anything has come: who takes no part, and what stays in place here, is not waited for.
  __device__ int first_known(int peer) const {
    const Signals& signals = kernel_.reduce.handshake.signals;
    const bool is_awaited = peer == signals.rank ? kernel_.folds_own : signals.lines[peer] != nullptr;
    return is_awaited ? 0 : INT_MAX;
  }

  // A ticket is half of a token's pieces, where there are some, so that the last ones are shared by more warps.
  __device__ void load_next(int lane) {
    const std::uint32_t ticket = __shfl_sync(kAllLanes, drawn_, 0);
    const int num_pieces = kernel_.reduce.pieces.num;
    const std::uint32_t num_halves = num_pieces > 3 ? 2 : 1;
    const int middle = num_halves == 1 ? num_pieces : (num_pieces + 1) / 2;
    const bool is_second = ticket % num_halves != 0;
    next_token_ = static_cast<std::int32_t>(min(ticket / num_halves, static_cast<std::uint32_t>(kernel_.reduce.num_tokens)));
    next_piece_ = is_second ? middle : 0;
    next_end_ = is_second ? num_pieces : middle;
    next_ = load_route(kernel_.reduce, next_token_, lane);
  }

  // The next ticket but one is drawn, and the next one's route loaded, while this one is summed.
  __device__ void enter_next(int lane) {
    const ReduceKernel& reduce = kernel_.reduce;
    num_left = 0;
    contributors = 0;
    token = next_token_;
    if (token >= reduce.num_tokens) return;
    piece = next_piece_;
    const int num_pieces = next_end_ - next_piece_;
    const ContributionRoute route = next_;
    load_next(lane);
    if (lane == 0) drawn_ = atomicAdd(next_ticket(), 1U);
    is_well = await_contributions(route, lane);
    if (!is_well) return;
    contribution = contribution_of(reduce, route, token, in_place_of_lane_, lane);
    contributors = __ballot_sync(kAllLanes, contribution != nullptr);
    if (piece == 0 && reduce.weights != nullptr && lane < reduce.top_k) {
      return_weight_to(reduce, static_cast<std::int64_t>(token) * reduce.top_k + lane);
    }
    num_left = num_pieces;
  }

  __device__ bool await_contributions(const ContributionRoute& route, int lane) {
    const bool is_there = lane < route.fan_out && route.row >= 0;
    const int holder = is_there ? route.destination % kWarp : 0;
    std::int64_t first_row = __shfl_sync(kAllLanes, first_row_, holder);
    int num_known = __shfl_sync(kAllLanes, num_known_, holder);
    bool is_announced = __shfl_sync(kAllLanes, announces_, holder);
    if (is_there && route.destination >= kWarp) {
      first_row = kernel_.sent[route.destination].first_row;
      is_announced = announces(route.destination);
      num_known = first_known(route.destination);
    }
    const auto segment = static_cast<int>((route.row - first_row) / kSegmentRows);
    const bool is_missing = is_there && segment >= num_known;
    unsigned missing = __ballot_sync(kAllLanes, is_missing);
    if (missing == 0) return true;
    bool has_come = true;
    if (is_missing) {
      delay_point(DelayPlace::kWait, kernel_.reduce.handshake.signals.rank, route.destination, turn_);
      has_come =
          is_announced ? await_segment(route.destination, segment, &num_known) : await_all_of(route.destination, &num_known);
    }
    __syncwarp();  // what one lane has awaited all may read
    if (!__all_sync(kAllLanes, has_come)) return false;
    for (; missing != 0; missing &= missing - 1) {
      const int o = __ffs(static_cast<int>(missing)) - 1;
      const int destination = __shfl_sync(kAllLanes, route.destination, o);
      const int known = __shfl_sync(kAllLanes, num_known, o);
      if (lane == destination) num_known_ = max(num_known_, known);
    }
    return true;
  }

  // And looks how far the next ones have come.
  __device__ bool await_segment(int peer, int segment, int* num_known) const {
    const Signals& signals = kernel_.reduce.handshake.signals;
    const std::uint64_t* words = kernel_.segments.words[signals.rank] + word_idx(kernel_.segments, peer, 0);
    if (!await_word(signals, words + segment, peer, turn_, Phase::kCombineRows, {.nap_nanoseconds = kNapNanoseconds}))
      return false;
    const auto num_all = static_cast<int>(num_segments(kernel_.sent[peer].num_rows));
    int known = segment + 1;
    while (known < num_all && ptx::load_acquire_system(words + known) == turn_) ++known;
    *num_known = known;
    return true;
  }

  __device__ bool await_all_of(int peer, int* num_known) const {
    *num_known = INT_MAX;
    return await(kernel_.reduce.handshake.signals, peer, LineWord::kData, turn_, Phase::kCombineRows);
  }

  const FoldReduceKernel& kernel_;
  std::uint64_t turn_;
  // Of the rank of the lane's number: most groups are no larger than a warp.
  const std::byte* in_place_of_lane_ = nullptr;
  std::int64_t first_row_ = 0;
  bool announces_ = false;
  int num_known_ = 0;  // segments from the first on that have come

  std::int32_t next_token_ = 0;
  int next_piece_ = 0;
  int next_end_ = 0;
  ContributionRoute next_;
  std::uint32_t drawn_ = 0;  // in lane 0
};

template <DataType kType, Fold kFold>
__global__ void __launch_bounds__(WarpsOf<kFold>::kMaxNum* kWarp, 1)
    fold_then_reduce(const __grid_constant__ FoldReduceKernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  using Warps = WarpsOf<kFold>;
  using Sums = TokenSums<kType, AwaitedTokens>;
  __shared__ typename Sums::Slot slots[Warps::kMaxNum][Warps::kNumSlots];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  std::byte* const ring_of_warp = shared + warp * Warps::kRingBytes;
  const Signals& signals = kernel.reduce.handshake.signals;
  const CallTurn call_turn = load_turn(kernel.reduce.handshake);
  // Behind the rings: warps may sum already while others fold.
  auto* const queues = reinterpret_cast<SentQueue*>(shared + num_warps * Warps::kRingBytes);
  auto* const next_segments = reinterpret_cast<int*>(queues + num_warps);
  if (static_cast<int>(threadIdx.x) < num_warps) queues[threadIdx.x].init();
  __syncthreads();
  const bool announces = blockIdx.x == gridDim.x - 1;
  // By the warp that will post data.
  if (announces && warp == num_warps - 1) post_entry_by_warp(kernel.reduce.handshake, call_turn, lane);
  bool is_well = await_entry(kernel.reduce.handshake, call_turn);
  const bool folds = static_cast<int>(blockIdx.x) < kernel.num_fold_blocks;
  if (warp == num_warps - 1 && (folds || announces)) {
    SentCounter counter(queues, folds ? num_warps - 1 : 0, lane);
    if (!is_well) {
      counter.close();
    } else {
      Announcer announcer(kernel.segments, signals, FoldedBlocks{kernel}, 1, next_segments, lane);
      is_well = count_and_announce(kernel.segments, signals, counter, announcer, announces, call_turn.turn, Phase::kCombineRows,
                                   lane, [] {});
    }
    if (is_well && announces) {
      for (int peer = lane; peer < signals.num_ranks; peer += kWarp) post(signals, peer, LineWord::kData, call_turn.turn);
    }
  } else if (folds && is_well) {
    FoldedPieces pieces(kernel, queues + warp, lane);
    if constexpr (kFold == Fold::kCopy) {
      copy_pieces<kType>(kernel, pieces, lane);
    } else {
      using Contributions = RowSums<kType, RowsOfPieces>;
      __shared__ typename Contributions::Slot fold_slots[Warps::kMaxNum][Warps::kNumSlots];
      RingOf<kType, Warps::kNumSlots, kFold == Fold::kSumInBulk> ring(ring_of_warp, kernel.fold.rows_are_aligned, lane);
      RowsOfPieces rows(kernel, &pieces, lane);
      Contributions contributions(kernel.fold, &rows);
      stream_sums<kType>(ring, contributions, fold_slots[warp], lane);
    }
    if (lane == 0) queues[warp].end(true);
  }
  if (is_well) {
    AwaitedTokens tokens(kernel, call_turn.turn, lane);
    // Not in bulk: each segment that has come would have to wait for the loads that are under way.
    LaneRing<kType, Warps::kNumSlots> ring(ring_of_warp, true, lane);
    Sums sums(kernel.reduce, &tokens);
    stream_sums<kType>(ring, sums, slots[warp], lane);
    is_well = tokens.is_well;
  }
  leave_kernel(kernel.reduce.handshake, call_turn, is_well, kernel.reduce.state);
}

// Of `num_blocks`, by measurement. In the compact layout few blocks keep the link busy. In others SMs are the limit, and blocks
// that have folded sum, too: best fold 12, 14, 15 of 16 where a row has 1, 2, 4 terms, if ids are spread evenly over as many
// ranks as a token can visit.
int num_fold_blocks(int num_blocks, const FoldKernel& fold) {
  if (fold.expanded_row == nullptr) return std::max(num_blocks * 3 / 8, 1);
  const int num_terms = std::max(fold.top_k / std::max(fold.max_fan_out, 1), 1);
  return std::max(num_blocks * 4 * num_terms / (4 * num_terms + 1), 1);
}

template <DataType kType, Fold kFold>
void launch_with(FoldReduceKernel kernel, const Launch& launch) {
  constexpr int kStaticBytes = 8192;  // room for what the kernel keeps besides
  const int segment_bytes = kernel.reduce.num_ranks * static_cast<int>(sizeof(int));
  constexpr int kWarpBytes = WarpsOf<kFold>::kRingBytes + static_cast<int>(sizeof(SentQueue));
  const int num_warps =
      std::clamp((current_device().max_shared_bytes - kStaticBytes - segment_bytes) / kWarpBytes, 2, WarpsOf<kFold>::kMaxNum);
  kernel.num_fold_blocks = num_fold_blocks(launch.num_sms, kernel.fold);
  fold_then_reduce<kType, kFold>
      <<<launch.num_sms, num_warps * kWarp, num_warps * kWarpBytes + segment_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "fold_and_reduce");
}

template <DataType kType>
void launch_fold_reduce(const FoldReduceKernel& kernel, const Launch& launch) {
  if (is_copied(kernel.fold)) return launch_with<kType, Fold::kCopy>(kernel, launch);
  if (loads_in_bulk(kernel.fold, launch)) return launch_with<kType, Fold::kSumInBulk>(kernel, launch);
  launch_with<kType, Fold::kSum>(kernel, launch);
}

template <DataType kType>
RegisteredKernels registered() {
  return {address_of(fold_then_reduce<kType, Fold::kCopy>), address_of(fold_then_reduce<kType, Fold::kSum>),
          address_of(fold_then_reduce<kType, Fold::kSumInBulk>)};
}

const RegisteredKernels kKernels[] = {registered<DataType::kFloat16>(), registered<DataType::kBFloat16>(),
                                      registered<DataType::kFloat32>(), registered<DataType::kFloat64>()};

}  // namespace

void fold_and_reduce(const FoldReduceArgs& args, const Launch& launch) {
  const FoldReduceKernel kernel{.fold = fold_kernel_of(args.fold),
                                .reduce = reduce_kernel_of(args.reduce),
                                .segments = args.segments,
                                .sent = args.sent,
                                .folds_own = args.fold.skip_source != args.reduce.rank || args.fold.carried_weights != nullptr,
                                .num_fold_blocks = 1};
  with_sum_type(args.reduce.dtype, [&]<DataType kType>() { launch_fold_reduce<kType>(kernel, launch); });
}

}  // namespace tokenyard::cuda
