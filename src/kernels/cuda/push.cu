// Every warp is a conveyor of its own: it takes tokens, brings their rows into shared memory by bulk loads, and sends them to
// all their destinations by bulk stores, several rows under way at once.
//
// Where the rows are wanted in tensors, some blocks copy what has come there while the others push, and those that have nothing
// left to push join them. They do not share multiprocessors at first, because copies would stand behind stores that wait for
// the link.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/announcer.cuh"
#include "kernels/cuda/conveyor.cuh"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/payload.cuh"
#include "kernels/cuda/push.hpp"
#include "kernels/cuda/push_routes.cuh"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kMaxConveyors = 15;
constexpr int kNumWarpsOfThreads = 16;
// What a warp that copies takes at a time, about.
constexpr std::int64_t kCopiedPieceBytes = 16 * 1024;
constexpr unsigned kNapNanoseconds = 250;
// Who has not even entered is named as such by the warps that push, whose deadline is over first.
constexpr unsigned kGraceNanoseconds = 10'000'000;

__device__ const std::byte* own_window_of(const PushKernel& kernel) {
  return kernel.copies_out ? kernel.windows[kernel.rank] : nullptr;
}

// By one thread, when all that `num_all` of its kind had to send is there: the last one tells the peers.
__device__ void tell_sent(const PushKernel& kernel, std::uint32_t num_all, std::uint64_t turn) {
  const Signals& signals = kernel.handshake.signals;
  ptx::fence_device();
  if (atomicAdd(&kernel.state->num_sent, 1U) + 1 != num_all) return;
  ptx::fence_system();
#pragma unroll 1
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    PeerLine* const line = line_at(signals, peer);
    if (line != nullptr) post_behind_fence(signals, line, kernel.sent_post, peer, turn);
  }
}

// What is announced.
struct SentBlocks {
  const PushKernel& kernel;
  __device__ bool is_wanted(int peer) const { return speaks_of_segments(kernel.handshake.signals, peer); }
  __device__ std::int64_t num_rows(int peer) const { return kernel.sent[peer].num_rows; }
};

__device__ SegmentPieces pieces_of(const PushKernel& kernel) {
  return pieces_of_sources(kernel.num_ranks, kernel.rank, kernel.pieces_of_segment);
}

// By all lanes of a warp.
__device__ std::uint32_t num_pieces_of(const PushKernel& kernel, int lane) {
  return pieces_of(kernel).num_pieces(most_rows_of_a_source(kernel.source_offsets, kernel.num_ranks, lane));
}

// Rows that have come from another rank and go from the window to the outputs; none, if there is nothing in the piece.
struct CopiedRows {
  SegmentPieces::Piece piece;
  std::int64_t first_row;  // that this rank receives
  std::int64_t num_rows;
};

__device__ CopiedRows copied_rows(const PushKernel& kernel, std::uint32_t piece_idx) {
  const SegmentPieces::Piece piece = pieces_of(kernel).at(piece_idx);
  const std::int64_t begin = kernel.source_offsets[piece.source];
  const std::int64_t num_all = kernel.source_offsets[piece.source + 1] - begin;
  const std::int64_t first_row = begin + piece.first_row;
  std::int64_t num_rows = min(piece.num_rows, num_all - piece.first_row);
  num_rows = min(num_rows, kernel.num_output_rows - first_row);
  if (piece.source == kernel.rank) num_rows = 0;
  return {piece, first_row, max(num_rows, std::int64_t{0})};
}

__device__ bool await_rows(const PushKernel& kernel, const CopiedRows& rows, std::uint64_t turn) {
  const Signals& signals = kernel.handshake.signals;
  const std::uint64_t* words = kernel.segments.words[signals.rank];
  delay_point(DelayPlace::kWait, signals.rank, rows.piece.source, turn);
  return await_word(signals, words + word_idx(kernel.segments, rows.piece.source, rows.piece.segment), rows.piece.source, turn,
                    Phase::kDispatchRows, {.nap_nanoseconds = kNapNanoseconds, .grace_nanoseconds = kGraceNanoseconds});
}

#if __CUDA_ARCH__ >= 900

// By one warp. False if a wait of it has failed.
__device__ bool push_rows(const PushKernel& kernel, Conveyor& conveyor, SentQueue* queue, const CallTurn& call_turn, int lane) {
  constexpr int kPartsPerGroup = 4;  // that are pushed between two groups
  Routes routes(kernel, share_of(kernel), lane);
  Destinations destinations(kernel, lane);
  const std::byte* own_window = own_window_of(kernel);
  bool has_groups = kernel.has_groups;
  int next_group_at = conveyor.num_loaded() + kPartsPerGroup;
  const bool works = lane == 0;

  bool is_well = true;
  bool may_store = false;
  Route route;
  // Of a ticket whose parts may still be on their way: they are those that were loaded before this one.
  Sent sent;
  int sent_end = -1;  // -1: word of it has been left
  const auto leave_word = [&](const Sent& written) {
    const Destinations::Counted counted = destinations.counted(written, lane);
    __syncwarp();
    queue->put(counted.is_there, {written.destination, counted.segment, counted.num_parts}, lane);
  };
  const auto push_next_group = [&] {
    int number = 0;
    if (works) number = static_cast<int>(atomicAdd(&kernel.state->next_group, 1U));
    number = __shfl_sync(kAllLanes, number, 0);
    has_groups = number < routes.num_groups();
    if (!has_groups) return;
    const TokenGroup group = routes.group(kernel, destinations, number);
    send_group(kernel, group, own_window);
    if (destinations.counts()) leave_word(group.sent);
  };
  const auto enter = [&] {
    is_well = may_store = await_entry(kernel.handshake, call_turn);
    if (is_well) destinations.hear_peers(lane);
  };
  while (is_well && routes.next(kernel, destinations, &route)) {
    for (int part = route.first_part; part < route.first_part + route.num_parts;) {
      const Run run = begin_run(kernel, route, &part, own_window, conveyor, lane);
      int loaded = run.begin;
      if (!may_store) {
        loaded = min(run.begin + conveyor.num_free() * run.part_bytes, run.end);
        conveyor.move(run.from, run.begin, loaded, run.part_bytes, works);
        if (loaded < run.end || kernel.has_plain_part) enter();
        if (!is_well) break;
      }
      conveyor.move(run.from, loaded, run.end, run.part_bytes, works);
      __syncwarp();
    }
    if (!is_well) break;
    if (kernel.has_plain_part && route.first_part == 0) send_plainly(kernel, route, own_window, lane);
    if (may_store && has_groups && conveyor.num_loaded() >= next_group_at) {
      next_group_at += kPartsPerGroup;
      push_next_group();
    }
    __syncwarp();
    if (may_store && !destinations.counts()) continue;
    if (!routes.ticket_is_over()) continue;
    if (sent_end >= 0) {
      if (!may_store) enter();
      if (!is_well) break;
      while (conveyor.num_stored() < sent_end) conveyor.store_next(works);
      if (works) conveyor.await_written(sent_end);
      if (destinations.counts()) leave_word(sent);
    }
    sent = routes.ticket();
    sent_end = conveyor.num_loaded();
  }
  // A rank that sends nothing enters and leaves with the others all the same.
  if (is_well && !may_store) enter();
  while (!conveyor.is_empty()) {
    if (is_well) {
      conveyor.store_next(works);
    } else {
      conveyor.abandon_next(works);
    }
  }
  while (is_well && has_groups) push_next_group();
  if (works) ptx::bulk_wait_written<0>();
  __syncwarp();
  if (is_well && destinations.counts() && sent_end >= 0) leave_word(sent);
  if (works && kernel.segments.words != nullptr) queue->end(is_well);
  return is_well;
}

// By one thread. False if a wait of it has failed.
__device__ bool copy_out(const PushKernel& kernel, Conveyor& conveyor, std::uint32_t num_pieces, const CallTurn& call_turn) {
  const std::byte* window = own_window_of(kernel);
  std::uint32_t* next_piece = &kernel.state->next_piece;
  bool is_well = true;
  for (std::uint32_t piece_idx = atomicAdd(next_piece, 1U); piece_idx < num_pieces && is_well;) {
    const std::uint32_t following = atomicAdd(next_piece, 1U);
    const CopiedRows rows = copied_rows(kernel, piece_idx);
    piece_idx = following;
    if (rows.num_rows == 0) continue;
    is_well = await_rows(kernel, rows, call_turn.turn);
    if (!is_well) break;
    ptx::fence_bulk();
#pragma unroll 1
    for (int i = 0; i < kernel.num_lanes; ++i) {
      const SourceLane& lane = kernel.lanes[i];
      const std::byte* from = window + lane.target + rows.first_row * lane.row_bytes;
      std::byte* to = lane.output + rows.first_row * lane.row_bytes;
      const auto num_bytes = static_cast<int>(rows.num_rows) * lane.row_bytes;
      std::byte** targets = conveyor.next_targets();
#pragma unroll 1
      for (int o = 0; o < kernel.max_fan_out; ++o) targets[o] = o == 0 ? to : nullptr;
      conveyor.begin_row();
      conveyor.move(from, 0, num_bytes, kernel.stage_bytes, true);
    }
  }
  while (!conveyor.is_empty()) conveyor.store_next(true);
  ptx::bulk_wait_written<0>();
  return is_well;
}

// By the warp behind those with conveyors. False if something has failed.
__device__ bool count_and_announce(const PushKernel& kernel, SentQueue* queues, int* next_segments, const CallTurn& call_turn,
                                   int lane) {
  const bool pushes = static_cast<int>(blockIdx.x) < kernel.num_push_blocks;
  const bool announces = blockIdx.x == gridDim.x - 1;
  // Other blocks may begin when the peers have been told already, and make their next calls: they must look at nobody's words.
  if (!pushes && !announces) return true;
  SentCounter counter(queues, pushes ? kernel.num_push_warps : 0, lane);
  if (!await_entry(kernel.handshake, call_turn)) {
    counter.close();
    return false;
  }
  Announcer announcer(kernel.segments, kernel.handshake.signals, SentBlocks{kernel}, kernel.row_parts, next_segments, lane);
  if (!kernel.copies_out && announcer.is_over()) {  // nobody wants to hear anything
    counter.close();
    return true;
  }
  const int num_tellers = kernel.num_push_blocks + (kernel.num_push_blocks < static_cast<int>(gridDim.x) ? 1 : 0);
  return count_and_announce(kernel.segments, kernel.handshake.signals, counter, announcer, announces, call_turn.turn,
                            Phase::kDispatchRows, lane, [&] {
                              if (kernel.copies_out) tell_sent(kernel, static_cast<std::uint32_t>(num_tellers), call_turn.turn);
                            });
}

__global__ void __launch_bounds__((kMaxConveyors + 1) * kWarp, 1) push_in_bulk(const __grid_constant__ PushKernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  auto* const queues =
      reinterpret_cast<SentQueue*>(shared + kernel.num_push_warps * conveyor_bytes(kernel.stage_bytes, kernel.max_fan_out));
  if (kernel.segments.words != nullptr) {
    if (static_cast<int>(threadIdx.x) < kernel.num_push_warps) queues[threadIdx.x].init();
    __syncthreads();
  }
  bool is_well = true;
  if (warp == kernel.num_push_warps) {
    is_well = count_and_announce(kernel, queues, reinterpret_cast<int*>(queues + kernel.num_push_warps), call_turn, lane);
  } else {
    Conveyor conveyor(shared, kernel.stage_bytes, kernel.max_fan_out, warp, kernel.num_push_warps);
    if (lane == 0) conveyor.init();
    __syncwarp();
    if (static_cast<int>(blockIdx.x) < kernel.num_push_blocks) {
      is_well = push_rows(kernel, conveyor, queues + warp, call_turn, lane);
    }
    if (kernel.copies_out && all_may_work(call_turn, is_well)) {
      conveyor.load_ahead(2);
      const std::uint32_t num_pieces = num_pieces_of(kernel, lane);
      if (lane == 0) is_well = copy_out(kernel, conveyor, num_pieces, call_turn);
    }
  }
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

#else

__global__ void push_in_bulk(const __grid_constant__ PushKernel) {}  // never launched before Hopper

#endif

// By one thread of each warp that pushes, and of the one that announces: it must have looked at the peers' headers before they
// are told.
__device__ void tell_sent_by_threads(const PushKernel& kernel, std::uint64_t turn) {
  if (kernel.copies_out) tell_sent(kernel, gridDim.x * static_cast<std::uint32_t>(kernel.num_push_warps) + 1, turn);
}

__device__ bool push_rows_by_threads(const PushKernel& kernel, const CallTurn& call_turn, int lane) {
  Routes routes(kernel, share_of(kernel), lane);
  Destinations destinations(kernel, lane);
  const std::byte* own_window = own_window_of(kernel);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) destinations.hear_peers(lane);
  Route route;
  while (is_well && routes.next(kernel, destinations, &route)) {
    send_plainly(kernel, route, own_window, lane);
    __syncwarp();
    if (!destinations.counts() || !routes.ticket_is_over()) continue;
    const Destinations::Counted counted = destinations.counted(routes.ticket(), lane);
    if (!counted.is_there) continue;
    ptx::fence_device();
    atomicAdd(counter_of(kernel.segments, routes.ticket().destination, counted.segment), counted.num_parts);
  }
  __syncwarp();
  if (is_well && lane == 0) tell_sent_by_threads(kernel, call_turn.turn);
  return is_well;
}

// By one warp of the launch, which has nothing else to do.
__device__ bool announce_by_threads(const PushKernel& kernel, int* next_segments, const CallTurn& call_turn, int lane) {
  const Signals& signals = kernel.handshake.signals;
  if (!await_entry(kernel.handshake, call_turn)) return false;
  Announcer announcer(kernel.segments, signals, SentBlocks{kernel}, kernel.row_parts, next_segments, lane);
  SentCounter nobody(nullptr, 0, lane);
  return count_and_announce(kernel.segments, signals, nobody, announcer, true, call_turn.turn, Phase::kDispatchRows, lane,
                            [&] { tell_sent_by_threads(kernel, call_turn.turn); });
}

__device__ bool copy_out_by_threads(const PushKernel& kernel, const CallTurn& call_turn, int lane) {
  const std::byte* window = own_window_of(kernel);
  const std::uint32_t num_pieces = num_pieces_of(kernel, lane);
  for (;;) {
    std::uint32_t piece_idx = 0;
    if (lane == 0) piece_idx = atomicAdd(&kernel.state->next_piece, 1U);
    piece_idx = __shfl_sync(kAllLanes, piece_idx, 0);
    if (piece_idx >= num_pieces) return true;
    const CopiedRows rows = copied_rows(kernel, piece_idx);
    if (rows.num_rows == 0) continue;
    if (!__all_sync(kAllLanes, await_rows(kernel, rows, call_turn.turn))) return false;
#pragma unroll 1
    for (int i = 0; i < kernel.num_lanes; ++i) {
      const SourceLane& source_lane = kernel.lanes[i];
      const std::int64_t first = rows.first_row * source_lane.row_bytes;
      copy_row(source_lane.output + first, window + source_lane.target + first, rows.num_rows * source_lane.row_bytes, lane);
    }
  }
}

__global__ void __launch_bounds__(kNumWarpsOfThreads* kWarp, 1) push_by_threads(const __grid_constant__ PushKernel kernel) {
  extern __shared__ int next_segments[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const CallTurn call_turn = load_turn(kernel.handshake);
  bool is_well = true;
  if (warp < kernel.num_push_warps) {
    is_well = push_rows_by_threads(kernel, call_turn, lane);
  } else if (warp == kNumWarpsOfThreads - 1 && blockIdx.x == gridDim.x - 1) {
    is_well = announce_by_threads(kernel, next_segments, call_turn, lane);
  }
  if (kernel.copies_out && all_may_work(call_turn, is_well)) is_well = copy_out_by_threads(kernel, call_turn, lane);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

PushKernel prepare(const PushArgs& args, bool in_bulk) {
  PushKernel kernel{};
  static_cast<Payload&>(kernel) = make_payload(args, *args.layout, in_bulk);
  kernel.first_token = args.num_tokens * args.rank / args.num_ranks;
  kernel.parts_per_ticket = kPartsPerTicket;
  kernel.windows = args.windows;
  kernel.num_ranks = args.num_ranks;
  kernel.handshake = args.handshake;
  kernel.state = args.state;
  kernel.segments = args.segments;
  kernel.sent = args.sent;
  if (args.outputs.empty()) return kernel;
  std::int64_t all_row_bytes = 0;
  for (int i = 0; i < kernel.num_lanes; ++i) {
    kernel.lanes[i].output = static_cast<std::byte*>(args.outputs[i].data);
    all_row_bytes += kernel.lanes[i].row_bytes;
  }
  kernel.copies_out = true;
  kernel.num_output_rows = args.outputs[0].shape[0];
  for (const TensorView& output : args.outputs) kernel.num_output_rows = std::min(kernel.num_output_rows, output.shape[0]);
  kernel.source_offsets = args.source_offsets;
  kernel.first_token = 0;  // rows are copied in the order in which all ranks send them
  kernel.pieces_of_segment = static_cast<int>(kSegmentRows);
  for (std::int64_t num_bytes = all_row_bytes; 2 * num_bytes <= kCopiedPieceBytes && kernel.pieces_of_segment > 1;) {
    num_bytes *= 2;
    kernel.pieces_of_segment /= 2;
  }
  // Peers hear of it before the last rows have been copied.
  kernel.sent_post = kernel.handshake.exit_post;
  kernel.handshake.exit_post = LineWord::kNone;
  return kernel;
}

// Blocks that push, where the others copy what has come. Pushing stores what this rank sends to others and to itself; what
// comes is half of that with two ranks, and little less than all of it with many, but then the link is the limit.
int num_push_blocks(const PushKernel& kernel, int num_blocks) {
  return kernel.copies_out ? (num_blocks * 5 + 7) / 8 : num_blocks;
}

const RegisteredKernels kKernels{address_of(push_in_bulk), address_of(push_by_threads)};

}  // namespace

bool can_copy_out(std::span<const TensorView> outputs) {
  return std::all_of(outputs.begin(), outputs.end(), [](const TensorView& output) {
    return output.num_dims == 2 && output.strides[0] == output.shape[1] && goes_by_vectors(output);
  });
}

void push(const PushArgs& args, const Launch& launch) {
  const Device device = current_device();
  PushKernel kernel = prepare(args, uses_bulk_copies(launch));
  const bool counts = kernel.segments.words != nullptr;
  const int segment_bytes = counts ? kernel.num_ranks * static_cast<int>(sizeof(int)) : 0;
  if (kernel.num_parts == 0) {
    kernel.num_parts = 1;
    kernel.num_push_blocks = launch.num_sms;
    kernel.num_push_warps = kNumWarpsOfThreads - (counts ? 1 : 0);
    if (kernel.copies_out) kernel.num_push_warps = kNumWarpsOfThreads * 2 / 3;
    kernel.row_parts = 1;
    push_by_threads<<<launch.num_sms, kNumWarpsOfThreads * kWarp, segment_bytes, launch.stream>>>(kernel);
    check_cuda(cudaGetLastError(), "push");
    return;
  }
  kernel.row_parts = kernel.num_parts + (kernel.has_groups ? 1 : 0);
  const int warp_bytes =
      conveyor_bytes(kernel.stage_bytes, kernel.max_fan_out) + (counts ? static_cast<int>(sizeof(SentQueue)) : 0);
  constexpr int kStaticBytes = 1024;  // room for what the kernel keeps besides
  kernel.num_push_warps = std::clamp((device.max_shared_bytes - kStaticBytes - segment_bytes) / warp_bytes, 2, kMaxConveyors);
  kernel.num_push_blocks = num_push_blocks(kernel, launch.num_sms);
  push_in_bulk<<<launch.num_sms, (kernel.num_push_warps + (counts ? 1 : 0)) * kWarp,
                 kernel.num_push_warps * warp_bytes + segment_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "push");
}

}  // namespace tokenyard::cuda
