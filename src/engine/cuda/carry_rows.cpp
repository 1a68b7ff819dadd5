// Combines whose rows cross by copy engines. What a rank contributes to another's tokens stands in its slot in one piece, so it
// is carried home by a few large copies, and summed there as it comes. carried_rows.hpp says where to, and in which order.

#include "engine/cuda/cuda_plan.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/reduce_chunks.hpp"

namespace tokenyard {
namespace {

// Tokens are summed faster than the link carries their rows, so what counts is how many are left behind the last chunk. A chunk
// more costs 3.6 us.
constexpr Chunks kCarryChunks{.num_chunks = 4, .ends = {22, 40, 54, 64}};
constexpr int kNumFirstChunks = 2;  // of two rounds
static_assert(kCarryChunks.ends[kCarryChunks.num_chunks - 1] == Chunks::kNumParts);
static_assert(kNumFirstChunks < kCarryChunks.num_chunks);

}  // namespace

void CudaPlan::open_carried_windows() {
  carried_layout_ = carried_layout(dimensions_, combine_lane_.row_bytes());
  for (int slot = 0; slot < kNumSlots; ++slot) {
    carried_windows_[slot] = peers_->share(window_tag(WindowKind::kCarried, slot, 0), carried_layout_.num_bytes,
                                           Deadline(peers_->timeout()), memory_);
  }
}

void CudaPlan::carry_rows(const CombineCall& call, const cuda::Launch& launch) {
  const int slot_idx = call.turn.slot;
  const int rank = peers_->rank();
  const Slot& read = slots_[call.header.in_place_slot];
  const std::byte* rows = read.windows[rank]->data() + read.layout.lanes[0];
  const std::size_t row_bytes = combine_lane_.row_bytes();
  CopyStreams& streams = copy_streams(call.turn);
  const CopySection section(memory_.device, &streams, copy_order(call.turn));
  streams.follow(launch.stream);
  for (const CarryStep& step : carry_order(rank, dimensions_.num_ranks, kCarryChunks.num_chunks, kNumFirstChunks)) {
    const SentBlock& block = call.routing->received[step.peer];
    const std::int64_t first = kCarryChunks.begin(step.first_chunk, block.num_rows);
    const std::int64_t num_rows = kCarryChunks.end(step.end_chunk - 1, block.num_rows) - first;
    std::byte* window = carried_windows_[slot_idx][step.peer]->data();
    streams.copy(window + carried_layout_.rows + static_cast<std::size_t>(block.staged_row + first) * row_bytes,
                 rows + static_cast<std::size_t>(block.first_row + first) * row_bytes,
                 static_cast<std::size_t>(num_rows) * row_bytes);
    streams.mark();
    auto* const arrivals = reinterpret_cast<std::uint64_t*>(window + carried_layout_.arrivals);
    for (int chunk = step.first_chunk; chunk < step.end_chunk; ++chunk) {
      streams.write_word(arrivals + chunk * dimensions_.num_ranks + rank, call.turn.word());
    }
  }
  // Behind the words at the homes as well: when the call is over, the peers need nothing more of this rank.
  streams.write_word(scratch_[slot_idx].copied[static_cast<int>(Track::kCombine)], call.turn.word());
}

void CudaPlan::reduce_carried(const CombineCall& call, cuda::ReduceArgs reduce, const cuda::Launch& launch) {
  const int slot_idx = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot_idx];
  const DeviceRouting& device = *call.routing->device;
  cuda::chunk_tokens({.num_tokens = call.routing->num_tokens,
                      .max_fan_out = dimensions_.max_fan_out,
                      .rank = peers_->rank(),
                      .fan_out = device.fan_out,
                      .destination = device.destination,
                      .row = device.row,
                      .sent = device.sent,
                      .chunks = kCarryChunks,
                      .begin = scratch.combine_chunks},
                     launch);
  const std::byte* window = carried_windows_[slot_idx][peers_->rank()]->data();
  reduce.carried_rows = window + carried_layout_.rows;
  reduce.sent = device.sent;
  cuda::reduce_chunks({.reduce = reduce,
                       .begin = scratch.combine_chunks,
                       .num_chunks = kCarryChunks.num_chunks,
                       .arrivals = reinterpret_cast<const std::uint64_t*>(window + carried_layout_.arrivals),
                       .copies = {scratch.copied[static_cast<int>(Track::kCombine)], call.turn.word()}},
                      launch);
}

}  // namespace tokenyard
