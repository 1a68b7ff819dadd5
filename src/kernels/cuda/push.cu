// Every warp is a conveyor of its own: it takes tokens, brings their rows into shared memory by bulk loads, and sends them to
// all their destinations by bulk stores, several rows under way at once. No warp waits for another.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/push.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffff;

// Rows under way per warp.
constexpr int kNumStages = 4;
constexpr int kMaxWarps = 16;
constexpr int kMaxStageBytes = 4 * 1024;
constexpr int kPartsPerTicket = 2;

// Where a stage's rows go: lane o of a warp keeps the place of ordinal o.
struct Target {
  std::byte* window;  // null: nowhere
  std::int64_t row;
  int part;
};

struct SourceLane {
  const std::byte* rows;
  std::int64_t row_stride;  // bytes
  std::int64_t element_stride;
  std::int64_t num_elements;
  std::int64_t row_bytes;
  std::size_t target;  // offset in the window
  int element_bytes;
  bool in_bulk;  // 16 bytes at a time
};

// A lane that is copied in bulk, as a part of the token's string: the bytes of all such lanes, one behind the other.
struct BulkLane {
  const std::byte* rows;
  std::int64_t row_stride;
  std::size_t target;
  int row_bytes;
  int begin;
};

struct Kernel {
  SourceLane lanes[kMaxLanes];
  int num_lanes;
  BulkLane bulk_lanes[kMaxLanes];
  int num_bulk_lanes;
  int num_bulk_bytes;  // of a token's string
  unsigned num_parts;  // it is cut into parts of stage_bytes; of all tokens, fewer than 2^32
  int stage_bytes;
  bool has_plain_part;  // something travels that is not copied in bulk

  std::byte* const* windows;
  int num_ranks;
  std::int64_t num_tokens;
  std::int64_t first_token;  // ranks begin at different ones, see Routes
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;

  int top_k;
  const std::int32_t* ordinal;
  const std::int32_t* local_idx;
  const std::byte* topk_weights;
  std::int64_t weights_token_stride;  // bytes
  std::int64_t weights_k_stride;
  std::size_t topk_idx_target;
  std::size_t topk_weights_target;
  std::size_t source_token_target;
  std::size_t ordinal_target;

  const SentBlock* staged;
  int chunk;
  int num_chunks;
  const std::int32_t* chunk_begin;
  const std::int32_t* chunk_end;

  Handshake handshake;
  LaunchState* state;
};

// A warp's place among those that share the work: they draw tickets for kPartsPerTicket parts of tokens each.
struct Share {
  std::int64_t idx;  // of this warp
  std::int64_t num_warps;
  std::uint32_t* next_ticket;  // counts the tickets that have been drawn
};

__device__ Share share_of(const Kernel& kernel) {
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  return {.idx = static_cast<std::int64_t>(warp) * gridDim.x + blockIdx.x,
          .num_warps = static_cast<std::int64_t>(gridDim.x) * num_warps,
          .next_ticket = &kernel.state->next_ticket};
}

// A part of a token's rows, and its destinations as the warp's lanes hold them: lane o that of ordinal o.
struct Route {
  std::int64_t token;
  int part;
  std::byte* window;  // null: nothing is sent
  std::int64_t row;
};

// Goes through the parts that a warp draws, in three steps, each of which has a ticket's time for its memory accesses: the
// ticket is drawn, the routes of its tokens are loaded, the windows looked up. Entry o of the ticket's token t lies in lane t *
// width + o.
class Routes {
 public:
  __device__ Routes(const Kernel& kernel, const Share& share, int lane)
      : share_(share), first_token_(kernel.first_token), num_tokens_(kernel.num_tokens), lane_(lane) {
    if (kernel.staged != nullptr) {
      first_token_ = *kernel.chunk_begin;
      num_tokens_ = max(*kernel.chunk_end - *kernel.chunk_begin, 0);
    }
    num_parts_all_ = num_tokens_ * kernel.num_parts;
    while (width_ < kernel.max_fan_out) width_ *= 2;
    parts_per_ticket_ = min(kPartsPerTicket, kWarp / width_);
    if (kernel.num_tokens > 0 && lane < kernel.num_ranks) window_of_lane_ = kernel.windows[lane];
    // The first two tickets need not be drawn.
    load(kernel, share.idx);
    drawn_ = share.idx + share.num_warps;
  }

  // False when there are no more. Parts that go nowhere are left out.
  __device__ bool next(const Kernel& kernel, Route* route) {
    for (;;) {
      if (num_left_ == 0) {
        first_ = loaded_first_;
        if (first_ >= num_parts_all_) return false;
        num_left_ = static_cast<int>(min(static_cast<std::int64_t>(parts_per_ticket_), num_parts_all_ - first_));
        num_taken_ = 0;
        look_up(kernel);
        load(kernel, __shfl_sync(kAllLanes, drawn_, 0));
        draw();
      }
      const int taken = num_taken_++;
      --num_left_;
      const int holder = (taken * width_ + lane_) % kWarp;
      const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window_), holder);
      route->row = __shfl_sync(kAllLanes, row_, holder);
      route->window = lane_ < kernel.max_fan_out ? reinterpret_cast<std::byte*>(window) : nullptr;
      if (!__any_sync(kAllLanes, route->window != nullptr)) continue;
      route->token = token_at(kernel, first_ + taken);
      route->part = kernel.num_parts == 1 ? 0 : static_cast<std::uint32_t>(first_ + taken) % kernel.num_parts;
      return true;
    }
  }

 private:
  // Ranks begin at different tokens: where neighbouring tokens go to the same ranks, the sources do not all crowd there at
  // once.
  __device__ std::int64_t token_at(const Kernel& kernel, std::int64_t position) const {
    const std::int64_t token =
        (kernel.num_parts == 1 ? position : static_cast<std::uint32_t>(position) / kernel.num_parts) + first_token_;
    return kernel.staged != nullptr || token < num_tokens_ ? token : token - num_tokens_;
  }

  __device__ void draw() {
    if (lane_ == 0) drawn_ = 2 * share_.num_warps + atomicAdd(share_.next_ticket, 1U);
  }

  __device__ void load(const Kernel& kernel, std::int64_t ticket) {
    loaded_first_ = ticket * parts_per_ticket_;
    const int ordinal = lane_ % width_;
    const std::int64_t position = loaded_first_ + lane_ / width_;
    loaded_fan_out_ = 0;
    if (position >= num_parts_all_ || lane_ / width_ >= parts_per_ticket_ || ordinal >= kernel.max_fan_out) return;
    const std::int64_t token = token_at(kernel, position);
    loaded_fan_out_ = kernel.fan_out[token];
    loaded_destination_ = kernel.destination[token * kernel.max_fan_out + ordinal];
    loaded_row_ = kernel.row[token * kernel.max_fan_out + ordinal];
  }

  __device__ void look_up(const Kernel& kernel) {
    row_ = loaded_row_;
    bool is_sent = lane_ % width_ < loaded_fan_out_ && loaded_row_ >= 0;
    if (kernel.staged != nullptr && is_sent) {
      const SentBlock& block = kernel.staged[loaded_destination_];
      const std::int64_t in_block = loaded_row_ - block.first_row;
      is_sent = in_block >= chunk_begin(block.num_rows, kernel.chunk, kernel.num_chunks) &&
                in_block < chunk_begin(block.num_rows, kernel.chunk + 1, kernel.num_chunks);
      row_ = block.staged_row + in_block;
    }
    const auto window =
        __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window_of_lane_), is_sent ? loaded_destination_ % kWarp : 0);
    window_ = is_sent ? reinterpret_cast<std::byte*>(window) : nullptr;
    if (is_sent && loaded_destination_ >= kWarp) window_ = kernel.windows[loaded_destination_];
  }

  Share share_;
  std::int64_t first_token_;
  std::int64_t num_tokens_;
  std::int64_t num_parts_all_;
  int lane_;
  int width_ = 1;  // a power of two
  int parts_per_ticket_;
  std::byte* window_of_lane_ = nullptr;  // of the rank of the lane's number: most groups are no larger than a warp

  std::int64_t first_ = 0;  // the present ticket
  int num_taken_ = 0;
  int num_left_ = 0;
  std::byte* window_ = nullptr;
  std::int64_t row_ = -1;

  std::int64_t loaded_first_ = 0;  // the next
  std::int32_t loaded_fan_out_ = 0;
  std::int32_t loaded_destination_ = -1;
  std::int64_t loaded_row_ = -1;

  std::int64_t drawn_ = 0;  // the one after it; in lane 0
};

// Ids, weights and source position, and lanes that cannot be copied in bulk (any lane, where `kBulk` is false).
template <bool kBulk>
__device__ void push_plainly(const Kernel& kernel, const Route& route, int lane) {
  std::byte* window = route.window;
  const unsigned targets = __ballot_sync(kAllLanes, window != nullptr);
#pragma unroll 1
  for (int i = 0; i < kernel.num_lanes; ++i) {
    const SourceLane& source_lane = kernel.lanes[i];
    const std::byte* source = source_lane.rows + route.token * source_lane.row_stride;
    std::byte* target = window == nullptr ? nullptr : window + source_lane.target + route.row * source_lane.row_bytes;
    if (source_lane.in_bulk) {
      if constexpr (!kBulk) copy_to_all(targets, target, source, source_lane.row_bytes, lane);
      continue;
    }
#pragma unroll 1
    for (unsigned rest = targets; rest != 0; rest &= rest - 1) {
      const int o = __ffs(static_cast<int>(rest)) - 1;
      const auto address = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(target), o);
      copy_elements(reinterpret_cast<std::byte*>(address), source, source_lane.element_stride, source_lane.element_bytes,
                    source_lane.num_elements, lane);
    }
  }
  if (kernel.ordinal == nullptr) return;
  int ordinal = -1;
  int local_idx = -1;
  float weight = 0.0F;
  if (lane < kernel.top_k) {
    ordinal = kernel.ordinal[route.token * kernel.top_k + lane];
    local_idx = kernel.local_idx[route.token * kernel.top_k + lane];
    if (kernel.topk_weights != nullptr) {
      weight = *reinterpret_cast<const float*>(kernel.topk_weights + route.token * kernel.weights_token_stride +
                                               lane * kernel.weights_k_stride);
    }
  }
#pragma unroll 1
  for (unsigned rest = targets; rest != 0; rest &= rest - 1) {
    const int o = __ffs(static_cast<int>(rest)) - 1;
    auto* target = reinterpret_cast<std::byte*>(__shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window), o));
    const std::int64_t row = __shfl_sync(kAllLanes, route.row, o);
    if (lane < kernel.top_k) {
      const std::int64_t entry = row * kernel.top_k + lane;
      reinterpret_cast<std::int32_t*>(target + kernel.topk_idx_target)[entry] = ordinal == o ? local_idx : -1;
      if (kernel.topk_weights != nullptr) reinterpret_cast<float*>(target + kernel.topk_weights_target)[entry] = weight;
    }
    if (lane == 0) {
      reinterpret_cast<std::int32_t*>(target + kernel.source_token_target)[row] = static_cast<std::int32_t>(route.token);
      reinterpret_cast<std::int32_t*>(target + kernel.ordinal_target)[row] = o;
    }
  }
}

#if __CUDA_ARCH__ >= 900

// Of the stages so many are being loaded, the others stored.
constexpr int kNumAhead = 1;

// What part number `part` of a token's string holds of a lane: where in the stage, where in the row, and how much.
struct Piece {
  int in_stage;
  int in_row;
  int num_bytes;  // 0 or less: nothing
};
__device__ Piece piece_of(const Kernel& kernel, const BulkLane& lane, int part) {
  const int first = part * kernel.stage_bytes;
  const int begin = max(first, lane.begin);
  const int end = min(first + kernel.stage_bytes, lane.begin + lane.row_bytes);
  return {begin - first, begin - lane.begin, end - begin};
}

// A warp's conveyor. One thread runs it: the copy engine keeps groups of stores by thread.
class Conveyor {
 public:
  __device__ Conveyor(const Kernel& kernel, std::byte* shared, int warp, int num_warps)
      : stages_(shared + static_cast<std::int64_t>(warp) * kNumStages * kernel.stage_bytes) {
    std::byte* behind_stages = shared + static_cast<std::int64_t>(num_warps) * kNumStages * kernel.stage_bytes;
    barriers_ = reinterpret_cast<ptx::Barrier*>(behind_stages) + warp * kNumStages;
    targets_ = reinterpret_cast<Target*>(behind_stages + num_warps * kNumStages * sizeof(ptx::Barrier)) +
               warp * kNumStages * kernel.max_fan_out;
  }

  __device__ void init() {
#pragma unroll 1
    for (int stage = 0; stage < kNumStages; ++stage) ptx::barrier_init(&barriers_[stage], 1);
    ptx::barrier_init_fence();
  }

  // The places of the next part's destinations, to be filled by all lanes before it is loaded. They are free as soon as the
  // stores of the part that used them have been started.
  __device__ Target* next_targets(const Kernel& kernel) const {
    return targets_ + num_loaded_ % kNumStages * kernel.max_fan_out;
  }

  __device__ bool is_full() const { return num_loaded_ - num_stored_ > kNumAhead; }
  __device__ bool is_empty() const { return num_loaded_ == num_stored_; }

  // All lanes count, one of them works.
  __device__ void load(const Kernel& kernel, std::int64_t token, int part, bool works) {
    const int stage = num_loaded_++ % kNumStages;
    if (!works) return;
    // The stores of the stage's previous part are the oldest that can be under way.
    ptx::bulk_wait_read<kNumStages - kNumAhead - 1>();
    const int num_bytes = min(kernel.stage_bytes, kernel.num_bulk_bytes - part * kernel.stage_bytes);
    ptx::barrier_arrive_expecting(&barriers_[stage], num_bytes);
#pragma unroll 1
    for (int i = 0; i < kernel.num_bulk_lanes; ++i) {
      const BulkLane& lane = kernel.bulk_lanes[i];
      const Piece piece = piece_of(kernel, lane, part);
      if (piece.num_bytes <= 0) continue;
      ptx::bulk_load(stages_ + stage * kernel.stage_bytes + piece.in_stage, lane.rows + token * lane.row_stride + piece.in_row,
                     piece.num_bytes, &barriers_[stage]);
    }
  }

  __device__ void store(const Kernel& kernel, bool works) {
    const int number = num_stored_++;
    if (!works) return;
    const int stage = number % kNumStages;
    await_loaded(number);
#pragma unroll 1
    for (int o = 0; o < kernel.max_fan_out; ++o) {
      const Target& target = targets_[stage * kernel.max_fan_out + o];
      std::byte* window = target.window;
      if (window == nullptr) continue;
#pragma unroll 1
      for (int i = 0; i < kernel.num_bulk_lanes; ++i) {
        const BulkLane& lane = kernel.bulk_lanes[i];
        const Piece piece = piece_of(kernel, lane, target.part);
        if (piece.num_bytes <= 0) continue;
        ptx::bulk_store(window + lane.target + target.row * lane.row_bytes + piece.in_row,
                        stages_ + stage * kernel.stage_bytes + piece.in_stage, piece.num_bytes);
      }
    }
    ptx::bulk_commit();
  }

  // Shared memory may not go while something is still coming.
  __device__ void abandon(bool works) {
    const int number = num_stored_++;
    if (works) await_loaded(number);
  }

 private:
  __device__ void await_loaded(int number) {
    while (!ptx::barrier_is_past(&barriers_[number % kNumStages], number / kNumStages % 2)) {
    }
  }

  std::byte* stages_;  // [kNumStages, stage_bytes]
  ptx::Barrier* barriers_;
  Target* targets_;     // [kNumStages, F]
  int num_loaded_ = 0;  // parts whose loads have been started, and whose stores have been
  int num_stored_ = 0;
};

__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) push_in_bulk(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) std::byte shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  const Share share = share_of(kernel);
  Routes routes(kernel, share, lane);
  const CallTurn call_turn = load_turn(kernel.handshake);
  Conveyor conveyor(kernel, shared, warp, num_warps);
  const bool works = lane == 0;
  if (works) conveyor.init();

  bool is_well = true;
  bool may_store = false;
  Route route;
  post_entry(kernel.handshake, call_turn);
  while (is_well && routes.next(kernel, &route)) {
    if (lane < kernel.max_fan_out) conveyor.next_targets(kernel)[lane] = {route.window, route.row, route.part};
    __syncwarp();
    conveyor.load(kernel, route.token, route.part, works);
    if (!may_store && (conveyor.is_full() || kernel.has_plain_part)) {
      is_well = may_store = await_entry(kernel.handshake, call_turn);
      if (!is_well) break;
    }
    if (conveyor.is_full()) conveyor.store(kernel, works);
    if (kernel.has_plain_part && route.part == 0) push_plainly<true>(kernel, route, lane);
    __syncwarp();
  }
  while (!conveyor.is_empty()) {
    if (is_well && !may_store) is_well = may_store = await_entry(kernel.handshake, call_turn);
    if (is_well) {
      conveyor.store(kernel, works);
    } else {
      conveyor.abandon(works);
    }
  }
  ptx::bulk_wait_written();
  // A rank that sends nothing enters and leaves with the others all the same.
  if (is_well && !may_store) is_well = await_entry(kernel.handshake, call_turn);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

#else

__global__ void push_in_bulk(const __grid_constant__ Kernel) {}  // never launched before Hopper

#endif

__global__ void __launch_bounds__(512, 1) push_by_threads(const __grid_constant__ Kernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Share share = share_of(kernel);
  Routes routes(kernel, share, lane);
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  Route route;
  while (is_well && routes.next(kernel, &route)) push_plainly<false>(kernel, route, lane);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

// Whether rows can be moved 16 bytes at a time.
bool is_bulk_lane(const ConstTensorView& lane) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
  const bool is_dense = lane.strides[1] == 1 || lane.shape[1] == 1;
  return is_dense && lane.shape[1] * element_bytes % 16 == 0 && lane.strides[0] * element_bytes % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(lane.data) % 16 == 0;
}

Kernel prepare(const PushArgs& args) {
  Kernel kernel{};
  for (const ConstTensorView& lane : args.lanes) {
    const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
    SourceLane& source = kernel.lanes[kernel.num_lanes];
    source.rows = static_cast<const std::byte*>(lane.data);
    source.row_stride = lane.strides[0] * element_bytes;
    source.element_stride = lane.strides[1] * element_bytes;
    source.num_elements = lane.shape[1];
    source.row_bytes = lane.shape[1] * element_bytes;
    source.target = args.layout->lanes[kernel.num_lanes];
    source.element_bytes = static_cast<int>(element_bytes);
    source.in_bulk = is_bulk_lane(lane);
    if (source.in_bulk) {
      kernel.bulk_lanes[kernel.num_bulk_lanes++] = {.rows = source.rows,
                                                    .row_stride = source.row_stride,
                                                    .target = source.target,
                                                    .row_bytes = static_cast<int>(source.row_bytes),
                                                    .begin = kernel.num_bulk_bytes};
      kernel.num_bulk_bytes += static_cast<int>(source.row_bytes);
    } else {
      kernel.has_plain_part = true;
    }
    ++kernel.num_lanes;
  }
  kernel.windows = args.windows;
  kernel.num_ranks = args.num_ranks;
  kernel.num_tokens = args.num_tokens;
  kernel.first_token = args.num_tokens * args.rank / args.num_ranks;
  kernel.max_fan_out = args.max_fan_out;
  kernel.fan_out = args.fan_out;
  kernel.destination = args.destination;
  kernel.row = args.row;
  kernel.top_k = args.top_k;
  kernel.ordinal = args.ordinal;
  kernel.has_plain_part = kernel.has_plain_part || args.ordinal != nullptr;
  kernel.local_idx = args.local_idx;
  if (args.topk_weights) {
    kernel.topk_weights = static_cast<const std::byte*>(args.topk_weights.data);
    kernel.weights_token_stride = args.topk_weights.strides[0] * static_cast<std::int64_t>(sizeof(float));
    kernel.weights_k_stride = args.topk_weights.strides[1] * static_cast<std::int64_t>(sizeof(float));
  }
  kernel.topk_idx_target = args.layout->topk_idx;
  kernel.topk_weights_target = args.layout->topk_weights;
  kernel.source_token_target = args.layout->source_token;
  kernel.ordinal_target = args.layout->ordinal;
  kernel.staged = args.staged;
  kernel.chunk = args.chunk;
  kernel.num_chunks = args.num_chunks;
  kernel.chunk_begin = args.chunk_begin;
  kernel.chunk_end = args.chunk_end;
  kernel.handshake = args.handshake;
  kernel.state = args.state;
  return kernel;
}

const RegisteredKernels kKernels{address_of(push_in_bulk), address_of(push_by_threads)};

}  // namespace

void push(const PushArgs& args, const Launch& launch) {
  const Device device = current_device();
  Kernel kernel = prepare(args);
  kernel.num_parts = 1;
  if (launch.plain_copies || !device.has_bulk_copies || kernel.num_bulk_bytes == 0) {
    push_by_threads<<<launch.num_sms, 512, 0, launch.stream>>>(kernel);
    check_cuda(cudaGetLastError(), "push");
    return;
  }
  kernel.num_parts = (kernel.num_bulk_bytes + kMaxStageBytes - 1) / kMaxStageBytes;
  kernel.stage_bytes = (kernel.num_bulk_bytes / 16 + kernel.num_parts - 1) / kernel.num_parts * 16;
  const int warp_bytes =
      kNumStages * (kernel.stage_bytes + static_cast<int>(sizeof(std::uint64_t) + sizeof(Target) * kernel.max_fan_out));
  constexpr int kStaticBytes = 1024;  // room for what the kernel keeps besides
  const int num_warps = std::clamp((device.max_shared_bytes - kStaticBytes) / warp_bytes, 1, kMaxWarps);
  const int shared_bytes = num_warps * warp_bytes;
  push_in_bulk<<<launch.num_sms, num_warps * 32, shared_bytes, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "push");
}

}  // namespace tokenyard::cuda
