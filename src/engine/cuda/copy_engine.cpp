// Calls whose rows cross by copy engines. A rank's rows for another stand there in one piece, so packed rows are carried by a
// few large copies; and what the other rank contributes to this rank's tokens stands there in one piece, too. Chunks let
// packing, copying and summing overlap.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "engine/cuda/cuda_plan.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/push.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

// The more chunks, the earlier the first copy begins and the less is left to be summed behind the last; each costs a launch.
constexpr int kPushChunks = 4;
constexpr int kPullChunks = 8;
static_assert(std::max(kPushChunks, kPullChunks) <= cuda::kMaxChunks);

std::int64_t staged_rows(const Routing::Data& routing) {
  std::int64_t num_rows = 0;
  for (int rank = 0; rank < routing.num_ranks; ++rank) {
    if (rank != routing.key.rank) num_rows += routing.sent[rank].num_rows;
  }
  return num_rows;
}

// `num_rows` rows that stand side by side at both ends.
struct RowCopy {
  std::byte* to;
  const std::byte* from;
  std::size_t row_bytes;

  void enqueue(std::int64_t to_row, std::int64_t from_row, std::int64_t num_rows, Stream stream) const {
    if (num_rows == 0 || row_bytes == 0) return;
    check_cuda(cudaMemcpyAsync(to + static_cast<std::size_t>(to_row) * row_bytes,
                               from + static_cast<std::size_t>(from_row) * row_bytes,
                               static_cast<std::size_t>(num_rows) * row_bytes, cudaMemcpyDeviceToDevice, stream),
               "cudaMemcpyAsync");
  }
};

}  // namespace

void CudaPlan::check_engines(const CombineCall& call) const {
  if (!uses_engines(call.args.execution) || call.header.in_place_slot >= 0) return;
  fail(ErrorCode::kUnsupported,
       "copy engines can carry the rows of a combine only where they lie in the slot: let the experts write to "
       "Received::combine_buffer() of a compact plan, without factors, or leave copies at kChosen");
}

void CudaPlan::make_copy_streams() {
  if (!copy_streams_.empty()) return;
  const auto make_event = [](Event* event) {
    check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  };
  for (Event& event : may_copy_) make_event(&event);
  for (int i = 0; i < num_copy_streams_; ++i) {
    for (Event& event : copied_.emplace_back()) make_event(&event);
    copy_streams_.push_back(make_urgent_stream());
  }
}

void CudaPlan::ensure_staging(Track track, int slot_idx, std::size_t num_bytes) {
  std::shared_ptr<MemoryRegion>& staging = staging_[static_cast<int>(track)][slot_idx];
  if (staging != nullptr && staging->num_bytes() >= num_bytes) return;
  settle(stream_, peers_->timeout());
  retire(std::move(staging));
  staging = own_memory(num_bytes + num_bytes / 4);
  if (track != Track::kDispatch) return;
  std::vector<std::byte*> windows(dimensions_.num_ranks, staging->data());
  windows[peers_->rank()] = nullptr;
  upload(scratch_[slot_idx].staging_windows, windows);
}

void CudaPlan::begin_copies(int chunk, Stream stream) {
  check_cuda(cudaEventRecord(may_copy_[chunk], stream), "cudaEventRecord");
  for (const Stream copies : copy_streams_) check_cuda(cudaStreamWaitEvent(copies, may_copy_[chunk], 0), "cudaStreamWaitEvent");
}

Stream CudaPlan::copy_stream(int peer) const { return copy_streams_[static_cast<std::size_t>(peer) % copy_streams_.size()]; }

void CudaPlan::end_copies(int chunk) {
  for (std::size_t i = 0; i < copy_streams_.size(); ++i) {
    check_cuda(cudaEventRecord(copied_[i][chunk], copy_streams_[i]), "cudaEventRecord");
  }
}

void CudaPlan::await_copies(int chunk, Stream stream) const {
  for (const auto& copied : copied_) check_cuda(cudaStreamWaitEvent(stream, copied[chunk], 0), "cudaStreamWaitEvent");
}

void CudaPlan::find_chunks(Track track, int slot_idx, const Routing::Data& routing, int num_chunks,
                           const cuda::Launch& launch) {
  const DeviceRouting& device = *routing.device;
  cuda::chunk_tokens({.num_tokens = routing.num_tokens,
                      .max_fan_out = dimensions_.max_fan_out,
                      .rank = peers_->rank(),
                      .fan_out = device.fan_out,
                      .destination = device.destination,
                      .row = device.row,
                      .sent = device.sent,
                      .num_chunks = num_chunks,
                      .begin = scratch_[slot_idx].chunk_begin[static_cast<int>(track)],
                      .end = scratch_[slot_idx].chunk_end[static_cast<int>(track)]},
                     launch);
}

void CudaPlan::push_by_engines(std::span<const ConstTensorView> lanes, const DispatchArgs& args, const DispatchCall& call,
                               const cuda::Launch& launch, Halves halves) {
  make_copy_streams();
  const int slot_idx = call.turn.slot;
  const int rank = peers_->rank();
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const bool cached = call.made == nullptr;
  const DispatchLayout staged = dispatch_layout(shape_, dimensions_, std::max<std::int64_t>(staged_rows(routing), 1));
  ensure_staging(Track::kDispatch, slot_idx, staged.num_bytes);
  const std::byte* staging = staging_[static_cast<int>(Track::kDispatch)][slot_idx]->data();
  cuda::Handshake handshake;
  handshake.signals = signals_of(Track::kDispatch, slot_idx, call.timeout);
  if (cached) {
    enter_cached(call, &handshake);
    meet(call.turn, handshake, launch);
    // Copies do not ask whether the peers have opened their slots, as kernels do: where one has not, its rows must stay.
    settle(launch.stream, call.timeout);
    peers_->check();
  }
  find_chunks(Track::kDispatch, slot_idx, routing, kPushChunks, launch);
  for (int chunk = 0; chunk < kPushChunks; ++chunk) {
    cuda::PushArgs pack = push_args(lanes, args, call);
    pack.layout = &staged;
    pack.windows = scratch_[slot_idx].staging_windows;
    pack.staged = routing.device->sent;
    pack.chunk = chunk;
    pack.num_chunks = kPushChunks;
    pack.chunk_begin = scratch_[slot_idx].chunk_begin[static_cast<int>(Track::kDispatch)] + chunk;
    pack.chunk_end = scratch_[slot_idx].chunk_end[static_cast<int>(Track::kDispatch)] + chunk;
    cuda::push(pack, launch);
    begin_copies(chunk, launch.stream);
    for (int peer = 0; peer < dimensions_.num_ranks; ++peer) {
      if (peer == rank) continue;
      const Stream stream = copy_stream(peer);
      const SentBlock& block = routing.sent[peer];
      std::byte* window = slot.windows[peer]->data();
      const std::int64_t begin = chunk_begin(block.num_rows, chunk, kPushChunks);
      const std::int64_t num_rows = chunk_begin(block.num_rows, chunk + 1, kPushChunks) - begin;
      for (std::size_t lane = 0; lane < shape_.lanes.size(); ++lane) {
        const RowCopy copy{window + slot.layout.lanes[lane], staging + staged.lanes[lane], shape_.lanes[lane].row_bytes()};
        copy.enqueue(block.first_row + begin, block.staged_row + begin, num_rows, stream);
      }
      if (cached || chunk != kPushChunks - 1) continue;
      const auto copy_array = [&](std::size_t to, std::size_t from, std::size_t row_bytes) {
        const RowCopy copy{window + to, staging + from, row_bytes};
        copy.enqueue(block.first_row, block.staged_row, block.num_rows, stream);
      };
      const auto top_k = static_cast<std::size_t>(shape_.top_k);
      copy_array(slot.layout.topk_idx, staged.topk_idx, top_k * sizeof(std::int32_t));
      if (args.topk_weights) copy_array(slot.layout.topk_weights, staged.topk_weights, top_k * sizeof(float));
      copy_array(slot.layout.source_token, staged.source_token, sizeof(std::int32_t));
      copy_array(slot.layout.ordinal, staged.ordinal, sizeof(std::int32_t));
    }
    end_copies(chunk);
  }
  cuda::PushArgs own = push_args(lanes, args, call);
  own.windows = scratch_[slot_idx].own_window;
  cuda::push(own, launch);
  await_copies(kPushChunks - 1, launch.stream);

  handshake = {};
  handshake.signals = signals_of(Track::kDispatch, slot_idx, call.timeout);
  handshake.entry_post = cuda::LineWord::kData;
  if (halves == Halves::kTogether) {
    handshake.entry_wait = cuda::LineWord::kData;
    handshake.entry_phase = Phase::kDispatchRows;
    handshake.ends_turn = true;
  }
  meet(call.turn, handshake, launch);
}

void CudaPlan::reduce_by_engines(const CombineCall& call, cuda::ReduceArgs reduce, const cuda::Launch& launch) {
  make_copy_streams();
  const int slot_idx = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const std::size_t row_bytes = combine_lane_.row_bytes();
  ensure_staging(Track::kCombine, slot_idx, static_cast<std::size_t>(staged_rows(routing)) * row_bytes);
  std::byte* staging = staging_[static_cast<int>(Track::kCombine)][slot_idx]->data();
  const Slot& read = slots_[call.header.in_place_slot];

  // The beginning of reduce's handshake comes before the copies, its end behind the last chunk.
  cuda::Handshake entry = reduce.handshake;
  entry.exit_post = entry.exit_wait = cuda::LineWord::kNone;
  entry.ends_turn = false;
  meet(call.turn, entry, launch);
  for (int chunk = 0; chunk < kPullChunks; ++chunk) {
    begin_copies(chunk, launch.stream);
    for (int peer = 0; peer < dimensions_.num_ranks; ++peer) {
      if (peer == peers_->rank()) continue;
      const SentBlock& block = routing.sent[peer];
      const std::int64_t begin = chunk_begin(block.num_rows, chunk, kPullChunks);
      const std::int64_t num_rows = chunk_begin(block.num_rows, chunk + 1, kPullChunks) - begin;
      const RowCopy copy{staging, read.windows[peer]->data() + read.layout.lanes[0], row_bytes};
      copy.enqueue(block.staged_row + begin, block.first_row + begin, num_rows, copy_stream(peer));
    }
    end_copies(chunk);
  }
  find_chunks(Track::kCombine, slot_idx, routing, kPullChunks, launch);
  const cuda::Handshake whole = reduce.handshake;
  reduce.staged_rows = staging;
  reduce.staged = routing.device->sent;
  reduce.staged_slot = call.header.in_place_slot;
  for (int chunk = 0; chunk < kPullChunks; ++chunk) {
    await_copies(chunk, launch.stream);
    reduce.token_range = scratch.chunk_begin[static_cast<int>(Track::kCombine)] + chunk;
    reduce.handshake = {.signals = whole.signals};
    if (chunk == kPullChunks - 1) {
      reduce.handshake.exit_post = whole.exit_post;
      reduce.handshake.exit_wait = whole.exit_wait;
      reduce.handshake.exit_phase = whole.exit_phase;
      reduce.handshake.ends_turn = true;
    }
    cuda::reduce(reduce, launch);
  }
}

}  // namespace tokenyard
