// Calls whose rows cross by copy engines. A rank's rows for another stand there in one piece, so packed rows are carried by a
// few large copies; and what the other rank contributes to this rank's tokens stands there in one piece, too. Chunks let
// packing, copying and summing overlap.

#include <algorithm>
#include <array>
#include <vector>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "engine/cuda/cuda_plan.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/meet.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "memory/cuda_driver.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

// SMs pack about twice as fast as a link carries. So the first chunk is small, for the copies to begin early, and each of the
// others larger than the one before, but not by more than what is packed while that one crosses, its word included. One launch
// packs them all. A chunk more costs 3 us.
constexpr Chunks kPushChunks{.num_chunks = 4, .ends = {5, 16, 36, 64}};
// Summing hardly keeps up with the link, and every chunk is a launch: smaller ones, or of different sizes, are no better.
constexpr Chunks kPullChunks{.num_chunks = 4, .ends = {16, 32, 48, 64}};
static_assert(kPushChunks.ends[kPushChunks.num_chunks - 1] == Chunks::kNumParts);
static_assert(kPullChunks.ends[kPullChunks.num_chunks - 1] == Chunks::kNumParts);

void copy_rows(std::byte* to, std::int64_t to_row, const std::byte* from, std::int64_t from_row, std::int64_t num_rows,
               std::size_t row_bytes, Stream stream) {
  if (num_rows == 0 || row_bytes == 0) return;
  check_cuda(
      cudaMemcpyAsync(to + static_cast<std::size_t>(to_row) * row_bytes, from + static_cast<std::size_t>(from_row) * row_bytes,
                      static_cast<std::size_t>(num_rows) * row_bytes, cudaMemcpyDeviceToDevice, stream),
      "cudaMemcpyAsync");
}

// An array with an element for each row, in what is packed and in the window that it goes to.
struct TravellingArray {
  std::size_t to;  // offsets
  std::size_t from;
  std::size_t row_bytes;
  bool in_chunks;  // otherwise it crosses as a whole beside the last chunk: a copy costs as much as some hundred KiB
};

std::vector<TravellingArray> arrays_of(const Shape& shape, const DispatchLayout& window, const DispatchLayout& staged,
                                       bool with_ids, bool with_weights) {
  constexpr std::size_t kSmall = 8;  // lanes of less than 1/8 of a row's bytes
  std::size_t all_bytes = 0;
  for (const Lane& lane : shape.lanes) all_bytes += lane.row_bytes();
  std::vector<TravellingArray> arrays;
  for (std::size_t i = 0; i < shape.lanes.size(); ++i) {
    const std::size_t row_bytes = shape.lanes[i].row_bytes();
    arrays.push_back({window.lanes[i], staged.lanes[i], row_bytes, row_bytes * kSmall >= all_bytes});
  }
  if (!with_ids) return arrays;
  const auto top_k = static_cast<std::size_t>(shape.top_k);
  arrays.push_back({window.topk_idx, staged.topk_idx, top_k * sizeof(std::int32_t), false});
  if (with_weights) arrays.push_back({window.topk_weights, staged.topk_weights, top_k * sizeof(float), false});
  arrays.push_back({window.source_token, staged.source_token, sizeof(std::int32_t), false});
  arrays.push_back({window.ordinal, staged.ordinal, sizeof(std::int32_t), false});
  return arrays;
}

// What `stream` is asked for from now on comes when `*word` has become `number`.
void await_word(const std::uint64_t* word, std::uint64_t number, Stream stream) {
  check_driver(cuda_driver().stream_wait_value64(stream, reinterpret_cast<CUdeviceptr>(word), number, CU_STREAM_WAIT_VALUE_GEQ),
               "cuStreamWaitValue64");
}

bool waits_for_words(int device) {
  int is_able = 0;
  check_driver(cuda_driver().device_get_attribute(&is_able, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, device),
               "cuDeviceGetAttribute");
  return is_able != 0;
}

}  // namespace

void CudaPlan::check_engines() const {
  if (num_ranks_on_gpu_ > 1) {
    fail(ErrorCode::kUnsupported,
         "{} ranks share GPU {}, and so do their copies: copies of one rank would stand behind those of another that waits for "
         "them. Give every rank a GPU of its own, or leave copies at kChosen",
         num_ranks_on_gpu_, memory_.device);
  }
  if (shape_.overflow != Overflow::kGrow) {
    fail(ErrorCode::kUnsupported,
         "copy engines need sizes that the host knows, which a plan with Overflow::kDrop does not have: make it with kGrow, or "
         "leave copies at kChosen");
  }
  if (staging_[static_cast<int>(Track::kDispatch)][0] == nullptr) {
    fail(ErrorCode::kUnsupported,
         "plans of this group hold no memory for packed rows: set GroupOptions::copy_engines when the group is made, or leave "
         "copies at kChosen");
  }
  if (!streams_wait_for_words_) {
    fail(ErrorCode::kUnsupported,
         "streams of GPU {} cannot wait for a word of 64 bits, by which copies follow what is packed: leave copies at kChosen",
         memory_.device);
  }
}

void CudaPlan::check_engines(const CombineCall& call) const {
  if (!uses_engines(call.args.execution) || call.header.in_place_slot >= 0) return;
  fail(ErrorCode::kUnsupported,
       "copy engines can carry the rows of a combine only where they lie in the slot: let the experts write to "
       "Received::combine_buffer() of a compact plan, without factors, or leave copies at kChosen");
}

void CudaPlan::prepare_engines() {
  const std::size_t dispatch_bytes = staged_layout(dimensions_.max_tokens).num_bytes;
  const std::size_t combine_bytes =
      std::max<std::size_t>(static_cast<std::size_t>(max_staged_rows(dimensions_.max_tokens)) * combine_lane_.row_bytes(), 1);
  for (int slot = 0; slot < kNumSlots; ++slot) {
    staging_[static_cast<int>(Track::kDispatch)][slot] = own_memory(dispatch_bytes);
    if (shape_.layout == Layout::kCompact) staging_[static_cast<int>(Track::kCombine)][slot] = own_memory(combine_bytes);
  }
  const auto make_event = [](Event* event) {
    check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  };
  make_event(&entered_);
  streams_wait_for_words_ = waits_for_words(memory_.device);
  for (int i = 0; i < num_copy_streams_; ++i) {
    for (Event& event : copied_.emplace_back()) make_event(&event);
    copy_streams_.push_back(make_urgent_stream());
  }
}

int CudaPlan::peer_at(int distance) const { return (peers_->rank() + distance) % dimensions_.num_ranks; }

void CudaPlan::await_copies(const CopyStreams& used, int chunk, Stream stream) const {
  for (int i = 0; i < num_copy_streams_; ++i) {
    if (!used[i]) continue;
    check_cuda(cudaEventRecord(copied_[i][chunk], copy_streams_[i]), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(stream, copied_[i][chunk], 0), "cudaStreamWaitEvent");
  }
}

std::int64_t CudaPlan::max_staged_rows(std::int64_t num_tokens) const {
  return num_tokens * std::min(dimensions_.max_fan_out, dimensions_.num_ranks - 1);
}

DispatchLayout CudaPlan::staged_layout(std::int64_t num_tokens) const {
  return dispatch_layout(shape_, dimensions_, std::max<std::int64_t>(max_staged_rows(num_tokens), 1));
}

void CudaPlan::pack_rows(std::span<const ConstTensorView> lanes, const DispatchArgs& args, const DispatchCall& call,
                         const cuda::Launch& launch) {
  const int slot_idx = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot_idx];
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const DeviceRouting& device = *routing.device;
  const bool cached = call.made == nullptr;
  const DispatchLayout staged = staged_layout(routing.num_tokens);
  cuda::PackArgs pack{.lanes = lanes,
                      .staging = {staging_[static_cast<int>(Track::kDispatch)][slot_idx]->data(), staged},
                      .window = {slot.windows[peers_->rank()]->data(), slot.layout},
                      .rank = peers_->rank(),
                      .num_ranks = dimensions_.num_ranks,
                      .num_tokens = routing.num_tokens,
                      .max_fan_out = dimensions_.max_fan_out,
                      .fan_out = device.fan_out,
                      .destination = device.destination,
                      .row = device.row,
                      .sent = device.sent,
                      .top_k = shape_.top_k,
                      .ordinal = cached ? nullptr : device.ordinal,
                      .local_idx = device.local_idx,
                      .topk_weights = args.topk_weights,
                      .chunks = kPushChunks,
                      .chunk_words = scratch.packed,
                      .number = ++num_packings_,
                      .state = scratch.state[static_cast<int>(Track::kDispatch)],
                      .pack_state = scratch.pack_state};
  pack.handshake.signals = signals_of(Track::kDispatch, slot_idx, call.timeout);
  if (cached) {
    enter_cached(call, &pack.handshake);
  } else {
    pack.handshake.gate = scratch.gate;
  }
  cuda::pack_rows(pack, launch);
}

void CudaPlan::copy_packed(const DispatchArgs& args, const DispatchCall& call, const cuda::Launch& launch, Halves halves) {
  const int slot_idx = call.turn.slot;
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const std::byte* staging = staging_[static_cast<int>(Track::kDispatch)][slot_idx]->data();
  const std::vector<TravellingArray> arrays = arrays_of(shape_, slot.layout, staged_layout(routing.num_tokens),
                                                        call.made != nullptr, static_cast<bool>(args.topk_weights));
  constexpr int kLast = kPushChunks.num_chunks - 1;
  CopyStreams used;
  std::array<int, kMaxCopyStreams> next_chunk{};  // of each stream: behind those whose words it waits for
  // Behind all chunks up to this one: what crosses as a whole has rows of all. The word of the first also says that the peers
  // have opened their slots.
  const auto stream_behind = [&](int chunk, int number) {
    const int idx = number % num_copy_streams_;
    used.set(idx);
    for (; next_chunk[idx] <= chunk; ++next_chunk[idx]) {
      await_word(scratch_[slot_idx].packed + next_chunk[idx], num_packings_, copy_streams_[idx]);
    }
    return copy_streams_[idx];
  };
  for (int chunk = 0; chunk <= kLast; ++chunk) {
    for (int distance = 1; distance < dimensions_.num_ranks; ++distance) {
      const int peer = peer_at(distance);
      const SentBlock& block = routing.sent[peer];
      std::byte* window = slot.windows[peer]->data();
      for (const TravellingArray& array : arrays) {
        if (!array.in_chunks && chunk != kLast) continue;
        const std::int64_t first = array.in_chunks ? kPushChunks.begin(chunk, block.num_rows) : 0;
        const std::int64_t num_rows = kPushChunks.end(chunk, block.num_rows) - first;
        if (num_rows == 0) continue;
        // What crosses as a whole does so beside the last chunk.
        copy_rows(window + array.to, block.first_row + first, staging + array.from, block.staged_row + first, num_rows,
                  array.row_bytes, stream_behind(chunk, peer + (array.in_chunks ? 0 : 1)));
      }
    }
  }
  await_copies(used, kLast, launch.stream);

  cuda::MeetArgs meeting{.segments = segments_of(Track::kDispatch, slot_idx),
                         .sent = routing.device->sent,
                         .state = scratch_[slot_idx].state[static_cast<int>(Track::kDispatch)]};
  meeting.handshake.signals = signals_of(Track::kDispatch, slot_idx, call.timeout);
  meeting.handshake.entry_post = cuda::LineWord::kData;
  if (halves == Halves::kTogether) {
    meeting.handshake.entry_wait = cuda::LineWord::kData;
    meeting.handshake.entry_phase = Phase::kDispatchRows;
    meeting.handshake.ends_turn = true;
  }
  cuda::meet(meeting, launch);
}

void CudaPlan::find_chunks(const CombineCall& call, const cuda::Launch& launch) {
  const Routing::Data& routing = *call.routing;
  const DeviceRouting& device = *routing.device;
  cuda::chunk_tokens({.num_tokens = routing.num_tokens,
                      .max_fan_out = dimensions_.max_fan_out,
                      .rank = peers_->rank(),
                      .fan_out = device.fan_out,
                      .destination = device.destination,
                      .row = device.row,
                      .sent = device.sent,
                      .chunks = kPullChunks,
                      .begin = scratch_[call.turn.slot].combine_chunks},
                     launch);
}

void CudaPlan::reduce_by_engines(const CombineCall& call, cuda::ReduceArgs reduce, const cuda::Launch& launch) {
  const int slot_idx = call.turn.slot;
  const Routing::Data& routing = *call.routing;
  const std::size_t row_bytes = combine_lane_.row_bytes();
  std::byte* staging = staging_[static_cast<int>(Track::kCombine)][slot_idx]->data();
  const Slot& read = slots_[call.header.in_place_slot];

  // The beginning of reduce's handshake comes before the copies, its end behind the last chunk.
  cuda::Handshake entry = reduce.handshake;
  entry.exit_post = entry.exit_wait = cuda::LineWord::kNone;
  entry.ends_turn = false;
  meet(call.turn, entry, launch);
  check_cuda(cudaEventRecord(entered_, launch.stream), "cudaEventRecord");
  find_chunks(call, launch);
  const cuda::Handshake whole = reduce.handshake;
  reduce.staged_rows = staging;
  reduce.staged = routing.device->sent;
  reduce.staged_slot = call.header.in_place_slot;
  CopyStreams entered;  // those that come behind the meeting
  for (int chunk = 0; chunk < kPullChunks.num_chunks; ++chunk) {
    CopyStreams used;
    for (int distance = 1; distance < dimensions_.num_ranks; ++distance) {
      const int peer = peer_at(distance);
      const SentBlock& block = routing.sent[peer];
      const std::int64_t first = kPullChunks.begin(chunk, block.num_rows);
      const std::int64_t num_rows = kPullChunks.num_rows(chunk, block.num_rows);
      if (num_rows == 0) continue;
      const int idx = peer % num_copy_streams_;
      const Stream stream = copy_streams_[idx];
      if (!entered[idx]) check_cuda(cudaStreamWaitEvent(stream, entered_, 0), "cudaStreamWaitEvent");
      entered.set(idx);
      used.set(idx);
      copy_rows(staging, block.staged_row + first, read.windows[peer]->data() + read.layout.lanes[0], block.first_row + first,
                num_rows, row_bytes, stream);
    }
    await_copies(used, chunk, launch.stream);
    reduce.token_range = scratch_[slot_idx].combine_chunks + chunk;
    reduce.handshake = {.signals = whole.signals};
    if (chunk == kPullChunks.num_chunks - 1) {
      reduce.handshake.exit_post = whole.exit_post;
      reduce.handshake.exit_wait = whole.exit_wait;
      reduce.handshake.exit_phase = whole.exit_phase;
      reduce.handshake.ends_turn = true;
    }
    cuda::reduce(reduce, launch);
  }
}

}  // namespace tokenyard
