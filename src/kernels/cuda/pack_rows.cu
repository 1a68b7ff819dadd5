// Every warp takes every so manyth part of the rows, first of those to be packed, in the order of tokens, so that a chunk after
// the other is complete; then of the rows that stay. Parts go through shared memory by bulk copies, several under way at once.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffff;

constexpr int kMaxWarps = 16;  // the last one of a block waits for the peers, the others move rows
constexpr int kNumStages = 4;  // parts under way per warp
constexpr int kMaxStageBytes = 4 * 1024;
constexpr int kNone = -1;

enum Place : int { kStaging, kWindow, kNumPlaces };

struct SourceLane {
  const std::byte* rows;
  std::int64_t row_stride;  // bytes
  std::int64_t element_stride;
  std::int64_t num_elements;
  std::int64_t row_bytes;
  int element_bytes;
  bool in_bulk;  // 16 bytes at a time
  int begin;     // in_bulk: in the row's string, the bytes of all such lanes one behind the other
};

struct Kernel {
  SourceLane lanes[kMaxLanes];
  int num_lanes;
  int num_bulk_bytes;  // of a row's string
  int num_parts;       // that it is cut into, of stage_bytes each
  int stage_bytes;
  bool has_plain_part;  // something is moved that is not copied in bulk

  RowPlaces places[kNumPlaces];
  int rank;
  std::int64_t num_entries;  // T * F
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;
  const SentBlock* sent;

  int top_k;
  const std::int32_t* ordinal;
  const std::int32_t* local_idx;
  const std::byte* topk_weights;
  std::int64_t weights_token_stride;  // bytes
  std::int64_t weights_k_stride;

  Chunks chunks;
  std::uint32_t parts_of_chunk[Chunks::kMaxChunks];  // chunk 0: and one for the peers' entry
  std::uint64_t* chunk_words;
  std::uint64_t number;

  Handshake handshake;
  LaunchState* state;
  PackState* pack_state;
};

// A part of a row, and where it goes.
struct Part {
  std::int64_t token;
  int ordinal;  // of the destination
  int idx;      // of the part
  int place;    // kNone: nowhere
  std::int64_t row;
  int chunk;  // kNone: of the rows that stay
};

// Goes through the parts of a warp, of which its lanes hold 32 at a time and load the next 32. Parts are numbered by place,
// then by entry of the Routing; in a round every warp takes one. From round to round a warp moves on by a part and an entry:
// otherwise a token's first destination, to which all or no rows may go, would always be the same warps' affair.
class Parts {
 public:
  __device__ Parts(const Kernel& kernel, int warp, int num_warps_of_block, int lane)
      : warp_(static_cast<std::int64_t>(warp) * gridDim.x + blockIdx.x),
        num_warps_(static_cast<std::int64_t>(num_warps_of_block) * gridDim.x),
        num_parts_of_place_(kernel.num_entries * kernel.num_parts),
        lane_(lane) {
    load(kernel);
  }

  // False when there are no more. The same for all lanes.
  __device__ bool next(const Kernel& kernel, Part* part) {
    while (left_ == 0) {
      if (first_round_ * num_warps_ >= kNumPlaces * num_parts_of_place_) return false;
      look_up(kernel);
      first_round_ += kWarp;
      load(kernel);
    }
    const int holder = __ffs(static_cast<int>(left_)) - 1;
    left_ &= left_ - 1;
    part->token = __shfl_sync(kAllLanes, held_.token, holder);
    part->ordinal = __shfl_sync(kAllLanes, held_.ordinal, holder);
    part->idx = __shfl_sync(kAllLanes, held_.idx, holder);
    part->place = __shfl_sync(kAllLanes, held_.place, holder);
    part->row = __shfl_sync(kAllLanes, held_.row, holder);
    part->chunk = __shfl_sync(kAllLanes, held_.chunk, holder);
    return true;
  }

 private:
  __device__ void load(const Kernel& kernel) {
    const std::int64_t round = first_round_ + lane_;
    const std::int64_t number = round * num_warps_ + (warp_ + round * (kernel.num_parts + 1)) % num_warps_;
    loaded_.place = kNone;
    if (number >= kNumPlaces * num_parts_of_place_) return;
    loaded_.place = number < num_parts_of_place_ ? kStaging : kWindow;
    const std::int64_t in_place = number - loaded_.place * num_parts_of_place_;
    const std::int64_t entry = in_place / kernel.num_parts;
    loaded_.idx = static_cast<int>(in_place % kernel.num_parts);
    loaded_.token = entry / kernel.max_fan_out;
    loaded_.ordinal = static_cast<int>(entry % kernel.max_fan_out);
    loaded_.row = kernel.row[entry];
    loaded_fan_out_ = kernel.fan_out[loaded_.token];
    loaded_destination_ = kernel.destination[entry];
  }

  __device__ void look_up(const Kernel& kernel) {
    held_ = loaded_;
    held_.chunk = kNone;
    bool is_there = held_.place != kNone && held_.ordinal < loaded_fan_out_ && held_.row >= 0;
    if (is_there) is_there = (loaded_destination_ == kernel.rank) == (held_.place == kWindow);
    if (is_there && held_.place == kStaging) {
      const SentBlock& block = kernel.sent[loaded_destination_];
      const std::int64_t in_block = held_.row - block.first_row;
      held_.chunk = kernel.chunks.chunk_of(in_block, block.num_rows);
      held_.row = block.staged_row + in_block;
    }
    left_ = __ballot_sync(kAllLanes, is_there);
  }

  std::int64_t warp_;
  std::int64_t num_warps_;
  std::int64_t num_parts_of_place_;
  int lane_;
  std::int64_t first_round_ = 0;  // of those loaded

  Part held_{};
  unsigned left_ = 0;  // lanes whose part has not been taken
  Part loaded_{};
  std::int32_t loaded_fan_out_ = 0;
  std::int32_t loaded_destination_ = kNone;
};

// One thread: `num_parts` of a chunk have been written, and whatever else this thread knows of has happened.
__device__ void count_packed(const Kernel& kernel, int chunk, std::uint32_t num_parts) {
  ptx::fence_device();
  const std::uint32_t before = atomicAdd(&kernel.pack_state->num_packed[chunk], num_parts);
  if (before + num_parts != kernel.parts_of_chunk[chunk]) return;
  ptx::fence_system();
  ptx::store_release_system(&kernel.chunk_words[chunk], kernel.number);
}

// Copies that have been enqueued cannot be held back. So before they begin, every rank shall be able to know that what lies in
// its slots stands for nothing any more; whoever has told this rank may not have come to the others yet.
__device__ void tell_all(const Signals& signals) {
  if (signals.host_failures == nullptr) return;
  const std::uint64_t failure = ptx::load_acquire_system(signals.failures[signals.rank]);
#pragma unroll 1
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    std::uint64_t* word = signals.host_failures[peer];
    if (word != nullptr && ptx::load_acquire_system(word) == 0) ptx::store_release_system(word, failure);
  }
  ptx::fence_system();
}

// The block's last warp, while the others pack.
__device__ bool await_peers(const Kernel& kernel, const CallTurn& call_turn, int lane) {
  if (blockIdx.x != 0) return true;
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (lane == 0) {
    if (!is_well) tell_all(kernel.handshake.signals);
    count_packed(kernel, 0, 1);
  }
  return is_well;
}

// At the end of every block; all its threads.
__device__ void leave_pack(const Kernel& kernel) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  ptx::fence_device();
  if (atomicAdd(&kernel.pack_state->num_blocks_done, 1U) != gridDim.x - 1) return;
  *kernel.pack_state = PackState{};
  ptx::fence_system();
#pragma unroll 1
  for (int chunk = 0; chunk < kernel.chunks.num_chunks; ++chunk) {
    ptx::store_release_system(&kernel.chunk_words[chunk], kernel.number);
  }
}

// Ids, weights and source position, and lanes that cannot be copied in bulk (any lane, where `kBulk` is false).
template <bool kBulk>
__device__ void move_plainly(const Kernel& kernel, const Part& part, int lane) {
  const RowPlaces& place = kernel.places[part.place];
#pragma unroll 1
  for (int i = 0; i < kernel.num_lanes; ++i) {
    const SourceLane& source_lane = kernel.lanes[i];
    const std::byte* source = source_lane.rows + part.token * source_lane.row_stride;
    std::byte* target = place.memory + place.layout.lanes[i] + part.row * source_lane.row_bytes;
    if (!source_lane.in_bulk) {
      copy_elements(target, source, source_lane.element_stride, source_lane.element_bytes, source_lane.num_elements, lane);
    } else if constexpr (!kBulk) {
      copy_to_all(1U, target, source, source_lane.row_bytes, lane);
    }
  }
  if (kernel.ordinal == nullptr) return;
  if (lane < kernel.top_k) {
    const std::int64_t from = part.token * kernel.top_k + lane;
    const std::int64_t to = part.row * kernel.top_k + lane;
    reinterpret_cast<std::int32_t*>(place.memory + place.layout.topk_idx)[to] =
        kernel.ordinal[from] == part.ordinal ? kernel.local_idx[from] : -1;
    if (kernel.topk_weights != nullptr) {
      reinterpret_cast<float*>(place.memory + place.layout.topk_weights)[to] = *reinterpret_cast<const float*>(
          kernel.topk_weights + part.token * kernel.weights_token_stride + lane * kernel.weights_k_stride);
    }
  }
  if (lane == 0) {
    reinterpret_cast<std::int32_t*>(place.memory + place.layout.source_token)[part.row] = static_cast<std::int32_t>(part.token);
    reinterpret_cast<std::int32_t*>(place.memory + place.layout.ordinal)[part.row] = part.ordinal;
  }
}

// What a warp has packed of one chunk and not yet counted.
struct Tally {
  int chunk = kNone;
  std::uint32_t num_parts = 0;
};

// Where the bytes of a part under way go.
struct Target {
  std::int64_t row;
  std::int32_t place;
  std::int32_t first;  // byte of the row's string
};

#if __CUDA_ARCH__ >= 900

// Of the parts under way so many are being loaded, the others stored.
constexpr int kNumAhead = 2;

// A warp's parts under way. One thread runs it: the copy engine keeps groups of stores by thread.
class Conveyor {
 public:
  __device__ Conveyor(const Kernel& kernel, std::byte* shared, int warp, int num_warps) {
    const int num_stages = num_warps * kNumStages;
    stages_ = shared + static_cast<std::int64_t>(warp) * kNumStages * kernel.stage_bytes;
    std::byte* behind_stages = shared + static_cast<std::int64_t>(num_stages) * kernel.stage_bytes;
    targets_ = reinterpret_cast<Target*>(behind_stages) + warp * kNumStages;
    barriers_ = reinterpret_cast<ptx::Barrier*>(behind_stages + num_stages * sizeof(Target)) + warp * kNumStages;
  }

  __device__ void init() {
#pragma unroll 1
    for (int stage = 0; stage < kNumStages; ++stage) ptx::barrier_init(&barriers_[stage], 1);
    ptx::barrier_init_fence();
  }

  __device__ void move(const Kernel& kernel, const Part& part) {
    const int stage = num_loaded_++ % kNumStages;
    const Target target{part.row, part.place, part.idx * kernel.stage_bytes};
    targets_[stage] = target;
    // The stores of the stage's previous part are the oldest that can be under way.
    ptx::bulk_wait_read<kNumStages - kNumAhead - 1>();
    ptx::barrier_arrive_expecting(&barriers_[stage], min(kernel.stage_bytes, kernel.num_bulk_bytes - target.first));
#pragma unroll 1
    for (int i = 0; i < kernel.num_lanes; ++i) {
      const SourceLane& lane = kernel.lanes[i];
      const Piece piece = piece_of(kernel, lane, target.first);
      if (piece.num_bytes <= 0) continue;
      ptx::bulk_load(stages_ + stage * kernel.stage_bytes + piece.in_stage,
                     lane.rows + part.token * lane.row_stride + piece.in_row, piece.num_bytes, &barriers_[stage]);
    }
    if (num_loaded_ - num_stored_ > kNumAhead) store(kernel);
  }

  // Until all has been written.
  __device__ void drain(const Kernel& kernel) {
    while (num_loaded_ != num_stored_) store(kernel);
    ptx::bulk_wait_written<0>();
  }

 private:
  struct Piece {
    int in_stage;
    int in_row;
    int num_bytes;  // 0 or less: nothing
  };
  // What a stage that begins at byte `first` of a row's string holds of a lane.
  static __device__ Piece piece_of(const Kernel& kernel, const SourceLane& lane, int first) {
    if (!lane.in_bulk) return {0, 0, 0};
    const int begin = max(first, lane.begin);
    const int end = min(first + kernel.stage_bytes, lane.begin + static_cast<int>(lane.row_bytes));
    return {begin - first, begin - lane.begin, end - begin};
  }

  __device__ void store(const Kernel& kernel) {
    const int number = num_stored_++;
    const int stage = number % kNumStages;
    while (!ptx::barrier_is_past(&barriers_[stage], number / kNumStages % 2)) {
    }
    const Target target = targets_[stage];
    const RowPlaces& place = kernel.places[target.place];
#pragma unroll 1
    for (int i = 0; i < kernel.num_lanes; ++i) {
      const SourceLane& lane = kernel.lanes[i];
      const Piece piece = piece_of(kernel, lane, target.first);
      if (piece.num_bytes <= 0) continue;
      ptx::bulk_store(place.memory + place.layout.lanes[i] + target.row * lane.row_bytes + piece.in_row,
                      stages_ + stage * kernel.stage_bytes + piece.in_stage, piece.num_bytes);
    }
    ptx::bulk_commit();
  }

  std::byte* stages_;  // [kNumStages, stage_bytes]
  Target* targets_;    // [kNumStages]
  ptx::Barrier* barriers_;
  int num_loaded_ = 0;  // parts whose loads have been started, and whose stores have been
  int num_stored_ = 0;
};

__device__ void pack_in_bulk_by_warp(const Kernel& kernel, std::byte* shared, int warp, int num_warps, int lane) {
  Parts parts(kernel, warp, num_warps, lane);
  Conveyor conveyor(kernel, shared, warp, num_warps);
  const bool works = lane == 0;
  if (works) conveyor.init();
  Tally tally;
  const auto count = [&] {
    if (tally.num_parts == 0) return;
    __syncwarp();  // what all lanes have written by themselves
    if (works) {
      conveyor.drain(kernel);
      count_packed(kernel, tally.chunk, tally.num_parts);
    }
    tally.num_parts = 0;
  };
  Part part;
  while (parts.next(kernel, &part)) {
    if (part.chunk != tally.chunk) count();
    tally.chunk = part.chunk;
    if (part.chunk != kNone) ++tally.num_parts;
    if (works) conveyor.move(kernel, part);
    if (kernel.has_plain_part && part.idx == 0) move_plainly<true>(kernel, part, lane);
    __syncwarp();
  }
  count();
  if (works) conveyor.drain(kernel);
}

__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) pack_in_bulk(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_movers = static_cast<int>(blockDim.x) / kWarp - 1;
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  bool is_well = true;
  if (warp == num_movers) {
    is_well = await_peers(kernel, call_turn, lane);
  } else if (call_turn.may_work()) {
    pack_in_bulk_by_warp(kernel, shared, warp, num_movers, lane);
  }
  leave_pack(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

#else

__global__ void pack_in_bulk(const __grid_constant__ Kernel) {}  // never launched before Hopper

#endif

__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) pack_by_threads(const __grid_constant__ Kernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_movers = static_cast<int>(blockDim.x) / kWarp - 1;
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  bool is_well = true;
  if (warp == num_movers) {
    is_well = await_peers(kernel, call_turn, lane);
  } else if (call_turn.may_work()) {
    Parts parts(kernel, warp, num_movers, lane);
    Tally tally;
    const auto count = [&] {
      __syncwarp();
      if (lane == 0 && tally.num_parts > 0) count_packed(kernel, tally.chunk, tally.num_parts);
      tally.num_parts = 0;
    };
    Part part;
    while (parts.next(kernel, &part)) {
      if (part.chunk != tally.chunk) count();
      tally.chunk = part.chunk;
      if (part.chunk != kNone) ++tally.num_parts;
      move_plainly<false>(kernel, part, lane);
    }
    count();
  }
  leave_pack(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

// Whether rows can be moved 16 bytes at a time.
bool is_bulk_lane(const ConstTensorView& lane) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
  const bool is_dense = lane.strides[1] == 1 || lane.shape[1] == 1;
  return is_dense && lane.shape[1] * element_bytes % 16 == 0 && lane.strides[0] * element_bytes % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(lane.data) % 16 == 0;
}

Kernel prepare(const PackArgs& args) {
  Kernel kernel{};
  for (const ConstTensorView& lane : args.lanes) {
    const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
    SourceLane& source = kernel.lanes[kernel.num_lanes++];
    source.rows = static_cast<const std::byte*>(lane.data);
    source.row_stride = lane.strides[0] * element_bytes;
    source.element_stride = lane.strides[1] * element_bytes;
    source.num_elements = lane.shape[1];
    source.row_bytes = lane.shape[1] * element_bytes;
    source.element_bytes = static_cast<int>(element_bytes);
    source.in_bulk = is_bulk_lane(lane);
    source.begin = kernel.num_bulk_bytes;
    if (source.in_bulk) {
      kernel.num_bulk_bytes += static_cast<int>(source.row_bytes);
    } else {
      kernel.has_plain_part = true;
    }
  }
  kernel.places[kStaging] = args.staging;
  kernel.places[kWindow] = args.window;
  kernel.rank = args.rank;
  kernel.num_entries = args.num_tokens * args.max_fan_out;
  kernel.max_fan_out = args.max_fan_out;
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  kernel.sent = args.sent;
  kernel.top_k = args.top_k;
  kernel.ordinal = args.ordinal;
  kernel.has_plain_part = kernel.has_plain_part || args.ordinal != nullptr;
  kernel.local_idx = args.local_idx;
  if (args.topk_weights) {
    kernel.topk_weights = static_cast<const std::byte*>(args.topk_weights.data);
    kernel.weights_token_stride = args.topk_weights.strides[0] * static_cast<std::int64_t>(sizeof(float));
    kernel.weights_k_stride = args.topk_weights.strides[1] * static_cast<std::int64_t>(sizeof(float));
  }
  kernel.chunks = args.chunks;
  kernel.chunk_words = args.chunk_words;
  kernel.number = args.number;
  kernel.handshake = args.handshake;
  kernel.state = args.state;
  kernel.pack_state = args.pack_state;
  return kernel;
}

void count_parts(const PackArgs& args, Kernel* kernel) {
  for (int chunk = 0; chunk < args.chunks.num_chunks; ++chunk) {
    kernel->parts_of_chunk[chunk] = static_cast<std::uint32_t>(args.rows_of_chunk[chunk] * kernel->num_parts);
  }
  ++kernel->parts_of_chunk[0];
}

const RegisteredKernels kKernels{address_of(pack_in_bulk), address_of(pack_by_threads)};

}  // namespace

void pack_rows(const PackArgs& args, const Launch& launch) {
  const Device device = current_device();
  Kernel kernel = prepare(args);
  kernel.num_parts = 1;
  if (launch.plain_copies || !device.has_bulk_copies || kernel.num_bulk_bytes == 0) {
    count_parts(args, &kernel);
    pack_by_threads<<<launch.num_sms, kMaxWarps * kWarp, 0, launch.stream>>>(kernel);
    check_cuda(cudaGetLastError(), "pack_rows");
    return;
  }
  kernel.num_parts = (kernel.num_bulk_bytes + kMaxStageBytes - 1) / kMaxStageBytes;
  kernel.stage_bytes = (kernel.num_bulk_bytes / 16 + kernel.num_parts - 1) / kernel.num_parts * 16;
  count_parts(args, &kernel);
  const int warp_bytes = kNumStages * (kernel.stage_bytes + static_cast<int>(sizeof(Target) + sizeof(std::uint64_t)));
  constexpr int kStaticBytes = 1024;  // room for what the kernel keeps besides
  const int num_movers = std::clamp((device.max_shared_bytes - kStaticBytes) / warp_bytes, 1, kMaxWarps - 1);
  pack_in_bulk<<<launch.num_sms, (num_movers + 1) * kWarp, num_movers * warp_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "pack_rows");
}

}  // namespace tokenyard::cuda
