// Warps draw tickets for parts of tokens, as push's do: in every pass of the order of the rows that belong to it, in the order
// of tokens, so that one piece after the other is complete; then of the rows that stay. Every warp is a conveyor of its own.
//
// Some blocks begin with the first tokens, whose rows are stored at peers, but for a few: tokens are divided as rows are, and
// not all go everywhere. They do not share multiprocessors with those that pack meanwhile, because copies would stand behind
// stores that wait for the link. A single block does one behind the other.

#include <algorithm>
#include <limits>

#include "base/cuda_error.hpp"
#include "kernels/cuda/conveyor.cuh"
#include "kernels/cuda/copy_word.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "kernels/cuda/payload.cuh"
#include "kernels/cuda/routes.cuh"
#include "kernels/cuda/segments.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kMaxWarps = 16;  // the last one of a block waits for the peers, the others move rows
constexpr int kNoPiece = -1;

constexpr int kPartsPerTicket = 4;  // see push_routes.cuh

// Blocks that store at peers at first: 9 of 16, as these take longer, but no more than fill a link of 400 GB/s.
constexpr int kMaxStoringBlocks = 9;

// Rows that are packed go to the lanes' outputs, which lie in the staging; the others to windows.
struct PackKernel : Payload {
  std::byte* staging;
  std::byte* const* windows;
  int num_ranks;
  const SentBlock* sent;

  PackOrder order;
  int num_storing_blocks;
  unsigned num_stored_parts;  // of the first round
  std::uint32_t row_parts;    // that are counted of each row
  std::uint64_t* piece_words;
  CopyWord copies;
  Segments segments;

  Handshake handshake;
  LaunchState* state;
  PackState* pack_state;
};

__device__ bool begins_with_storing(const PackKernel& kernel) {
  return static_cast<int>(blockIdx.x) < kernel.num_storing_blocks;
}

// A warp's place among those that store at peers, or among the others, which share what is left.
__device__ Share share_of(const PackKernel& kernel, int num_movers, bool stores) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_block = stores ? 0 : kernel.num_storing_blocks;
  const int num_blocks = (stores ? kernel.num_storing_blocks : static_cast<int>(gridDim.x)) - first_block;
  Share share{.idx = warp * num_blocks + static_cast<int>(blockIdx.x) - first_block,
              .num_warps = num_blocks * num_movers,
              .next_ticket = stores ? &kernel.state->next_piece : &kernel.state->next_ticket};
  (stores ? share.end_part : share.begin_part) = kernel.num_stored_parts;
  return share;
}

// The blocks of rows that go to the ranks. Lane r of a warp keeps what it has to know of rank r's.
class Blocks {
 public:
  __device__ Blocks(const PackKernel& kernel, int lane) : kernel_(kernel) {
    if (kernel.num_tokens > 0 && lane < kernel.num_ranks) block_ = load(lane);
  }

  // What the lanes send to `row` of `destination`, or to its place where it is packed; by all of them. Rounds are passes.
  __device__ Sent find(bool is_sent, std::int32_t destination, std::int64_t row, int round) const {
    is_sent = is_sent && row >= 0 && (round == kAllRounds || round == kernel_.order.pass_of(destination));
    const Block block = block_of(is_sent ? destination : 0);
    if (!is_sent) return {};
    const std::int64_t row_in_block = row - block.sent.first_row;
    const bool is_packed = destination != kernel_.rank &&
                           row_in_block >= kernel_.order.num_stored(kernel_.order.pass_of(destination), block.sent.num_rows);
    if (is_packed) return {kernel_.staging, block.sent.staged_row + row_in_block, destination};
    return {block.window, row, destination};
  }

  // Of each lane's row, or kNoPiece: nothing is sent, or it stays.
  __device__ int piece_of(const Sent& sent) const {
    const bool is_sent = sent.window != nullptr && sent.destination != kernel_.rank;
    const Block block = block_of(is_sent ? sent.destination : 0);
    if (!is_sent) return kNoPiece;
    if (sent.window != kernel_.staging) return PackOrder::kStoredPiece;
    const PackOrder& order = kernel_.order;
    return order.piece_of(order.pass_of(sent.destination), sent.row - block.sent.staged_row, block.sent.num_rows);
  }

 private:
  struct Block {
    std::byte* window = nullptr;
    SentBlock sent{};
  };

  __device__ Block load(int rank) const { return {kernel_.windows[rank], kernel_.sent[rank]}; }

  __device__ Block block_of(int rank) const {
    const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(block_.window), rank % kWarp);
    Block block{reinterpret_cast<std::byte*>(window),
                {__shfl_sync(kAllLanes, block_.sent.first_row, rank % kWarp),
                 __shfl_sync(kAllLanes, block_.sent.num_rows, rank % kWarp),
                 __shfl_sync(kAllLanes, block_.sent.staged_row, rank % kWarp)}};
    if (rank >= kWarp) block = load(rank);
    return block;
  }

  const PackKernel& kernel_;
  Block block_;
};

// The parts of a piece that have been written are added up, and the number of all of them is taken off: the piece is packed
// when nothing is left. One thread: knows that `num_parts` have been written, or how many there are.
__device__ void count_packed(const PackKernel& kernel, int piece, std::uint32_t num_parts) {
  ptx::fence_device();
  if (atomicAdd(&kernel.pack_state->num_packed[piece], num_parts) + num_parts != 0) return;
  ptx::fence_system();
  ptx::store_relaxed_system(&kernel.piece_words[piece], kernel.copies.number);
}

__device__ std::uint32_t parts_of_piece(const PackKernel& kernel, int piece) {
  const PackOrder& order = kernel.order;
  std::int64_t num_rows = 0;
#pragma unroll 1
  for (int rank = 0; rank < kernel.num_ranks; ++rank) {
    if (rank == kernel.rank || order.pass_of(rank) != order.pass_of_piece(piece)) continue;
    num_rows += order.num_rows(piece, kernel.sent[rank].num_rows);
  }
  return static_cast<std::uint32_t>(num_rows) * kernel.row_parts;
}

constexpr unsigned kStored = 1U << PackOrder::kStoredPiece;

// What a warp has packed and not yet counted. Lane p counts for piece p; what is stored at peers need not be.
class Tally {
 public:
  __device__ Tally(const PackKernel& kernel, int lane) : kernel_(kernel), lane_(lane) {}

  // Whether what is of these pieces may be added; otherwise the others would have to wait for it.
  __device__ bool may_add(unsigned pieces) const { return pieces_ == 0 || pieces == kStored || pieces_ == (pieces & ~kStored); }

  // A part of each lane's piece, which are those of `pieces`.
  __device__ void add(int piece, unsigned pieces) {
    pieces_ |= pieces & ~kStored;
#pragma unroll 1
    for (unsigned rest = pieces & ~kStored; rest != 0; rest &= rest - 1) {
      const int counted = __ffs(static_cast<int>(rest)) - 1;
      const unsigned holders = __ballot_sync(kAllLanes, piece == counted);
      if (lane_ == counted) num_parts_ += static_cast<std::uint32_t>(__popc(holders));
    }
  }

  // When all that was added has been written, by whatever lanes.
  __device__ void count() {
    __syncwarp();
    if (num_parts_ > 0) count_packed(kernel_, lane_, num_parts_);
    pieces_ = 0;
    num_parts_ = 0;
  }

 private:
  const PackKernel& kernel_;
  int lane_;
  unsigned pieces_ = 0;  // a bit each
  std::uint32_t num_parts_ = 0;
};

__device__ unsigned set_of(int piece) { return __reduce_or_sync(kAllLanes, piece == kNoPiece ? 0U : 1U << piece); }

// Before the first row that is stored at a peer; by all lanes of a warp.
class Entry {
 public:
  __device__ Entry(const Handshake& handshake, const CallTurn& call_turn) : handshake_(handshake), call_turn_(call_turn) {}

  __device__ bool await() {
    if (!is_over_) is_well_ = await_entry(handshake_, call_turn_, false);
    is_over_ = true;
    return is_well_;
  }
  // No wait has failed.
  __device__ bool is_well() const { return is_well_; }

 private:
  const Handshake& handshake_;
  const CallTurn& call_turn_;
  bool is_over_ = false;
  bool is_well_ = true;
};

// The block's last warp, while the others pack. One of the launch says how much there is; of the first piece that is packed
// only when the peers have come.
__device__ bool await_peers(const PackKernel& kernel, const CallTurn& call_turn, int lane) {
  if (blockIdx.x != 0) return true;
  const bool counts = call_turn.may_work() && lane >= PackOrder::kFirstPacked && lane < kernel.order.num_pieces();
  const std::uint32_t num_parts = counts ? parts_of_piece(kernel, lane) : 0;
  if (counts && lane != PackOrder::kFirstPacked) count_packed(kernel, lane, 0U - num_parts);
  __syncwarp();
  const bool is_well = await_entry(kernel.handshake, call_turn, true);
  if (lane == 0 && !is_well) tell_all(kernel.handshake.signals);
  __syncwarp();
  if (counts && lane == PackOrder::kFirstPacked) count_packed(kernel, lane, 0U - num_parts);
  return is_well;
}

// When a block has stored and packed its share; all its threads.
__device__ void end_packing(const PackKernel& kernel) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  ptx::fence_device();
  if (atomicAdd(&kernel.pack_state->num_blocks_done, 1U) != gridDim.x - 1) return;
  kernel.pack_state->num_blocks_done = 0;  // the pieces' counters have come to zero by themselves, or this rank has failed
  ptx::fence_system();
#pragma unroll 1
  for (int piece = 0; piece < kernel.order.num_pieces(); ++piece) {
    ptx::store_relaxed_system(&kernel.piece_words[piece], kernel.copies.number);
  }
}

// What has been sent, all segments at once, to peers whose headers ask for that. By a warp.
__device__ void announce_all(const PackKernel& kernel, std::uint64_t turn, int lane) {
  const Signals& signals = kernel.handshake.signals;
  if (kernel.segments.words == nullptr) return;
  ptx::fence_system();
#pragma unroll 1
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    if (!speaks_of_segments(signals, peer)) continue;
    const auto num_all = static_cast<int>(num_segments(kernel.sent[peer].num_rows));
    for (int segment = lane; segment < num_all; segment += kWarp) {
      ptx::store_relaxed_system(kernel.segments.words[peer] + word_idx(kernel.segments, signals.rank, segment), turn);
    }
  }
}

// The same warp, when the block has packed its share: until all has crossed, whatever has failed. `is_well`: the peers have
// come.
__device__ bool await_all_copies(const PackKernel& kernel, const CallTurn& call_turn, bool is_well, int lane) {
  if (blockIdx.x != 0) return is_well;
  const Signals& signals = kernel.handshake.signals;
  if (lane == 0 && kernel.copies.word != nullptr) {
    is_well = await_copies(signals, kernel.copies, Phase::kDispatchRows) && is_well;
  }
  if (lane == 0 && is_well && kernel.segments.words != nullptr && kernel.order.num_pieces() > 0) {
    // What is announced has also been stored, by whatever blocks.
    const CopyWord stored{&kernel.piece_words[PackOrder::kStoredPiece], kernel.copies.number};
    is_well = await_copies(signals, stored, Phase::kDispatchRows) && !has_failed(signals);
  }
  __syncwarp();
  is_well = __all_sync(kAllLanes, is_well);
  if (is_well && call_turn.may_work()) announce_all(kernel, call_turn.turn, lane);
  return is_well;
}

__device__ Routes first_routes(const PackKernel& kernel, int num_movers, int lane) {
  return Routes(kernel, share_of(kernel, num_movers, begins_with_storing(kernel)), lane);
}

// Goes through the routes that a warp draws, which begin with the first_routes: `move(route, in_first_pass)` moves one,
// `drain()` ends when all that was moved has been written, and `join()` is told that nothing is left to store at peers.
template <class Drain, class Join, class Move>
__device__ void move_routes(const PackKernel& kernel, Routes& routes, const Blocks& blocks, Entry& entry, int num_movers,
                            int lane, Drain drain, Join join, Move move) {
  Tally tally(kernel, lane);
  Route route;
  bool in_first_pass = true;
  bool is_storing = begins_with_storing(kernel);
  for (;;) {
    const bool begins_ticket = routes.ticket_is_over();
    if (!routes.next(kernel, blocks, &route)) {
      if (!is_storing) break;
      is_storing = false;
      join();
      routes.join(kernel, share_of(kernel, num_movers, false));
      continue;
    }
    if (begins_ticket) {
      const int piece = blocks.piece_of(routes.ticket());
      const unsigned pieces = set_of(piece);
      if (!tally.may_add(pieces)) {
        drain();
        tally.count();
      }
      if ((pieces & kStored) != 0 && !entry.await()) break;
      tally.add(piece, pieces);
      in_first_pass = (pieces & ((1U << kernel.order.chunks.num_chunks) - 1)) != 0;
    }
    move(route, in_first_pass);
  }
  drain();
  tally.count();
}

#if __CUDA_ARCH__ >= 900

// Groups of tokens with short rows are moved, to all their destinations, by the warps whose parts have come near them in the
// first pass, and so piece by piece as these. They are divided as the parts are.
class Groups {
 public:
  __device__ Groups(const PackKernel& kernel, const Routes& routes, int num_movers, int lane) : kernel_(kernel), lane_(lane) {
    if (!kernel.has_groups) return;
    stores_ = begins_with_storing(kernel);
    num_stored_ = static_cast<int>(kernel.num_stored_parts / kernel.num_parts) / routes.group_tokens();
    // What all warps together have under way.
    num_tokens_ahead_ = static_cast<int>(gridDim.x) * num_movers * kernel.parts_per_ticket / static_cast<int>(kernel.num_parts);
    draw(routes);
  }

  // When nothing is left to store at peers but groups: those, and then others.
  __device__ void join(const Routes& routes, const Blocks& blocks, Entry& entry) {
    move_until(kernel_.num_tokens, routes, blocks, entry);
    stores_ = false;
    if (kernel_.has_groups) draw(routes);
  }

  // Those that begin not far behind `token`. They need not be counted with the parts: their lanes have written them at once.
  __device__ void move_until(std::int64_t token, const Routes& routes, const Blocks& blocks, Entry& entry) {
#pragma unroll 1
    while (has_group_ && number_ * routes.group_tokens() <= token + num_tokens_ahead_) {
      const TokenGroup group = routes.group(kernel_, blocks, static_cast<int>(number_));
      const int piece = blocks.piece_of(group.sent);
      const unsigned pieces = set_of(piece);
      if ((pieces & kStored) != 0 && !entry.await()) break;
      send_group(kernel_, group, kernel_.staging);
      Tally tally(kernel_, lane_);
      tally.add(piece, pieces);
      tally.count();
      draw(routes);
    }
  }

 private:
  __device__ void draw(const Routes& routes) {
    unsigned number = 0;
    if (lane_ == 0) number = atomicAdd(stores_ ? &kernel_.state->next_piece_group : &kernel_.state->next_group, 1U);
    number_ = __shfl_sync(kAllLanes, number, 0) + (stores_ ? 0 : num_stored_);
    has_group_ = number_ < (stores_ ? num_stored_ : routes.num_groups());
  }

  const PackKernel& kernel_;
  int lane_;
  bool stores_ = false;
  int num_stored_ = 0;  // groups
  int num_tokens_ahead_ = 0;
  std::int64_t number_ = 0;
  bool has_group_ = false;
};

// By one warp. False if a wait of it has failed.
__device__ bool move_in_bulk(const PackKernel& kernel, Conveyor& conveyor, int num_movers, const CallTurn& call_turn,
                             int lane) {
  const bool works = lane == 0;
  Routes routes = first_routes(kernel, num_movers, lane);
  const Blocks blocks(kernel, lane);
  Groups groups(kernel, routes, num_movers, lane);
  const auto drain = [&] {
    while (!conveyor.is_empty()) conveyor.store_next(works);
    if (works) ptx::bulk_wait_written<0>();
  };
  Entry entry(kernel.handshake, call_turn);
  const auto join = [&] { groups.join(routes, blocks, entry); };
  move_routes(kernel, routes, blocks, entry, num_movers, lane, drain, join, [&](const Route& route, bool in_first_pass) {
    for (int part = route.first_part; part < route.first_part + route.num_parts;) {
      const Run run = begin_run(kernel, route, &part, kernel.staging, conveyor, lane);
      conveyor.move(run.from, run.begin, run.end, run.part_bytes, works);
      __syncwarp();
    }
    if (kernel.has_plain_part && route.first_part == 0) send_plainly(kernel, route, kernel.staging, lane);
    groups.move_until(in_first_pass ? route.token : kernel.num_tokens, routes, blocks, entry);
    __syncwarp();
  });
  if (entry.is_well()) groups.move_until(kernel.num_tokens, routes, blocks, entry);
  return entry.is_well();
}

__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) pack_in_bulk(const __grid_constant__ PackKernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_movers = static_cast<int>(blockDim.x) / kWarp - 1;
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  bool is_well = true;
  if (warp == num_movers) {
    is_well = await_peers(kernel, call_turn, lane);
  } else {
    Conveyor conveyor(shared, kernel.stage_bytes, kernel.max_fan_out, warp, num_movers);
    if (lane == 0) conveyor.init();
    __syncwarp();
    conveyor.load_ahead(2);
    if (all_may_work(call_turn)) is_well = move_in_bulk(kernel, conveyor, num_movers, call_turn, lane);
  }
  end_packing(kernel);
  if (warp == num_movers) is_well = await_all_copies(kernel, call_turn, is_well, lane);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

#else

__global__ void pack_in_bulk(const __grid_constant__ PackKernel) {}  // never launched before Hopper

#endif

__device__ bool move_by_threads(const PackKernel& kernel, int num_movers, const CallTurn& call_turn, int lane) {
  Routes routes = first_routes(kernel, num_movers, lane);
  const Blocks blocks(kernel, lane);
  Entry entry(kernel.handshake, call_turn);
  move_routes(
      kernel, routes, blocks, entry, num_movers, lane, [] {}, [] {},
      [&](const Route& route, bool) { send_plainly(kernel, route, kernel.staging, lane); });
  return entry.is_well();
}

__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) pack_by_threads(const __grid_constant__ PackKernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_movers = static_cast<int>(blockDim.x) / kWarp - 1;
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  bool is_well = true;
  if (warp == num_movers) {
    is_well = await_peers(kernel, call_turn, lane);
  } else if (all_may_work(call_turn)) {
    is_well = move_by_threads(kernel, num_movers, call_turn, lane);
  }
  end_packing(kernel);
  if (warp == num_movers) is_well = await_all_copies(kernel, call_turn, is_well, lane);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

PackKernel prepare(const PackArgs& args, bool in_bulk) {
  PackKernel kernel{};
  static_cast<Payload&>(kernel) = make_payload(args, *args.layout, in_bulk);
  kernel.staging = args.staging.memory;
  kernel.windows = args.windows;
  for (int i = 0; i < kernel.num_lanes; ++i) kernel.lanes[i].output = args.staging.memory + args.staging.layout.lanes[i];
  kernel.copies_out = true;
  kernel.num_output_rows = std::numeric_limits<std::int64_t>::max();
  kernel.output_ids = id_targets(args.staging.layout);
  kernel.parts_per_ticket = kPartsPerTicket;
  kernel.num_ranks = args.num_ranks;
  kernel.sent = args.sent;
  kernel.order = PackOrder::of(args.rank, args.num_ranks, args.chunks);
  kernel.num_rounds = kernel.order.num_passes + 1;
  kernel.piece_words = args.piece_words;
  kernel.copies = args.copies;
  kernel.segments = args.segments;
  kernel.handshake = args.handshake;
  kernel.state = args.state;
  kernel.pack_state = args.pack_state;
  return kernel;
}

const RegisteredKernels kKernels{address_of(pack_in_bulk), address_of(pack_by_threads)};

}  // namespace

void pack_rows(const PackArgs& args, const Launch& launch) {
  const Device device = current_device();
  PackKernel kernel = prepare(args, uses_bulk_copies(launch));
  const bool in_bulk = kernel.num_parts > 0;
  if (!in_bulk) kernel.num_parts = 1;
  kernel.row_parts = kernel.num_parts + (kernel.has_groups ? 1 : 0);
  kernel.num_storing_blocks = std::clamp((launch.num_sms * 9 + 8) / 16, 1, kMaxStoringBlocks);
  // About: rows are a few more or fewer than their share of the tokens.
  kernel.num_stored_parts = static_cast<unsigned>(args.chunks.end(PackOrder::kStoredPiece, args.num_tokens)) * kernel.num_parts;
  if (!in_bulk) {
    pack_by_threads<<<launch.num_sms, kMaxWarps * kWarp, 0, launch.stream>>>(kernel);
    check_cuda(cudaGetLastError(), "pack_rows");
    return;
  }
  const int warp_bytes = conveyor_bytes(kernel.stage_bytes, kernel.max_fan_out);
  constexpr int kStaticBytes = 1024;  // room for what the kernel keeps besides
  const int num_movers = std::clamp((device.max_shared_bytes - kStaticBytes) / warp_bytes, 1, kMaxWarps - 1);
  pack_in_bulk<<<launch.num_sms, (num_movers + 1) * kWarp, num_movers * warp_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "pack_rows");
}

}  // namespace tokenyard::cuda
