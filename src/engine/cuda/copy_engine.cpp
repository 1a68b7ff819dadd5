// Dispatches whose rows cross by copy engines, and what calls by copy engines have in common. A rank's rows for another stand
// there in one piece, so packed rows are carried by a few large copies, rank after rank, as pack_order.hpp says.

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "engine/cuda/cuda_plan.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "layout/pack_order.hpp"
#include "memory/cuda_driver.hpp"

namespace tokenyard {
namespace {

// The first chunk is stored at the peers until copies begin, which is some 10 us after the second has been packed: so that one
// is small. SMs pack half as fast again as a link carries, or more: each of the others is what has been packed when the one
// before it has crossed. If it is not quite, its copy begins 10 us late. A chunk more costs some 8 us.
constexpr Chunks kPushChunks{.num_chunks = 4, .ends = {14, 21, 36, 64}};
static_assert(kPushChunks.ends[kPushChunks.num_chunks - 1] == Chunks::kNumParts);

// An array with an element for each row, in what is packed and in the window that it goes to.
struct TravellingArray {
  std::size_t to;  // offsets
  std::size_t from;
  std::size_t row_bytes;
  bool in_pieces;  // otherwise it crosses as a whole: a copy costs as much as some hundred KiB
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

bool blocks_launches() {
  const char* const value = std::getenv("CUDA_LAUNCH_BLOCKING");
  return value != nullptr && *value != '\0' && *value != '0';
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
  if (staging_[0] == nullptr) {
    fail(
        ErrorCode::kUnsupported,
        "plans of this group hold no memory for rows that copy engines carry: set GroupOptions::copy_engines when the group is "
        "made, or leave copies at kChosen");
  }
  if (launches_block_) {
    fail(
        ErrorCode::kUnsupported,
        "CUDA_LAUNCH_BLOCKING is set, so launches wait for their kernels, and a kernel that packs waits for copies that follow "
        "it: unset it, or leave copies at kChosen");
  }
  if (!streams_wait_for_words_) {
    fail(ErrorCode::kUnsupported,
         "streams of GPU {} cannot wait for words of 64 bits and write them, as copies by copy engines must: leave copies at "
         "kChosen",
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
  for (auto& staging : staging_) staging = own_memory(staged_layout(dimensions_.max_tokens).num_bytes);
  streams_wait_for_words_ = waits_for_words(memory_.device);
  launches_block_ = blocks_launches();
  for (int slot = 0; slot < kNumSlots; ++slot) {
    copy_streams_[static_cast<int>(Track::kDispatch)][slot] = std::make_unique<CopyStreams>(false);
    copy_streams_[static_cast<int>(Track::kCombine)][slot] = std::make_unique<CopyStreams>(true);
  }
}

DispatchLayout CudaPlan::staged_layout(std::int64_t num_tokens) const {
  return dispatch_layout(shape_, dimensions_, std::max<std::int64_t>(max_staged_rows(dimensions_, num_tokens), 1));
}

OwedCopies CudaPlan::pack_rows(std::span<const ConstTensorView> lanes, const DispatchArgs& args, const DispatchCall& call,
                               const cuda::Launch& launch, Halves halves) {
  const int slot_idx = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot_idx];
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const DeviceRouting& device = *routing.device;
  const bool cached = call.made == nullptr;
  const DispatchLayout staged = staged_layout(routing.num_tokens);
  cuda::PackArgs pack{.lanes = lanes,
                      .staging = {staging_[slot_idx]->data(), staged},
                      .layout = &slot.layout,
                      .windows = scratch.windows,
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
                      .piece_words = scratch.packed,
                      .copies = {scratch.copied[static_cast<int>(Track::kDispatch)], ++num_copyings_},
                      .segments = segments_of(Track::kDispatch, slot_idx),
                      .state = scratch.state[static_cast<int>(Track::kDispatch)],
                      .pack_state = scratch.pack_state};
  pack.handshake.signals = signals_of(Track::kDispatch, slot_idx, call.timeout);
  if (cached) {
    enter_cached(call, &pack.handshake);
  } else {
    pack.handshake.gate = scratch.gate;
  }
  pack.handshake.exit_post = cuda::LineWord::kData;
  if (halves == Halves::kTogether) {
    pack.handshake.exit_wait = cuda::LineWord::kData;
    pack.handshake.exit_phase = Phase::kDispatchRows;
    pack.handshake.ends_turn = true;
  }
  OwedCopies owed([this, turn = call.turn] { refuse_copies(turn); });
  cuda::pack_rows(pack, launch);
  return owed;
}

void CudaPlan::end_copies(int slot_idx, std::uint64_t number) {
  const auto track = static_cast<int>(Track::kDispatch);
  copy_streams_[track][slot_idx]->end(scratch_[slot_idx].copied[track], number);
}

void CudaPlan::refuse_copies(const Turn& turn) noexcept {
  try {
    try {
      const CopySection section(memory_.device, &copy_streams(turn), copy_order(turn));
      end_copies(turn.slot, cuda::kNoCopies);
    } catch (...) {
      upload(scratch_[turn.slot].copied[static_cast<int>(Track::kDispatch)], std::vector<std::uint64_t>{cuda::kNoCopies});
    }
  } catch (...) {
    // The device has failed: its kernels have ended.
  }
}

void CudaPlan::copy_packed(const DispatchArgs& args, const DispatchCall& call, OwedCopies* owed) {
  const int slot_idx = call.turn.slot;
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const std::byte* staging = staging_[slot_idx]->data();
  const std::vector<TravellingArray> arrays = arrays_of(shape_, slot.layout, staged_layout(routing.num_tokens),
                                                        call.made != nullptr, static_cast<bool>(args.topk_weights));
  const PackOrder order = PackOrder::of(peers_->rank(), dimensions_.num_ranks, kPushChunks);
  CopyStreams& streams = copy_streams(call.turn);
  const CopySection section(memory_.device, &streams, copy_order(call.turn));
  for (int piece = PackOrder::kFirstPacked; piece < order.num_pieces(); ++piece) {
    // That of the first one that is packed also says that the peers have opened their slots.
    streams.await_word(scratch_[slot_idx].packed + piece, num_copyings_);
    for (int distance = 1; distance < dimensions_.num_ranks; ++distance) {
      const int peer = peer_at(peers_->rank(), distance, dimensions_.num_ranks);
      if (order.pass_of(peer) != order.pass_of_piece(piece)) continue;
      const SentBlock& block = routing.sent[peer];
      std::byte* window = slot.windows[peer]->data();
      const bool ends_block = order.end(piece, block.num_rows) == block.num_rows;
      for (const TravellingArray& array : arrays) {
        if (!array.in_pieces && !ends_block) continue;
        const std::int64_t first =
            array.in_pieces ? order.begin(piece, block.num_rows) : order.num_stored(order.pass_of(peer), block.num_rows);
        const auto bytes_of = [&](std::int64_t num_rows) { return static_cast<std::size_t>(num_rows) * array.row_bytes; };
        streams.copy(window + array.to + bytes_of(block.first_row + first),
                     staging + array.from + bytes_of(block.staged_row + first),
                     bytes_of(order.end(piece, block.num_rows) - first));
      }
    }
  }
  end_copies(slot_idx, num_copyings_);
  owed->settle();
}

}  // namespace tokenyard
