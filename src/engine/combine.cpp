// Combine: fold, signal, reduce.

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/plan_impl.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/host/fold.hpp"
#include "kernels/host/reduce.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard {

int Plan::Impl::find_in_place_slot(const CombineArgs& args, const Routing::Data& routing) const {
  const auto* rows = static_cast<const std::byte*>(args.rows.data);
  const auto lie_in = [rows](const std::shared_ptr<MemoryRegion>& region) {
    return region != nullptr && rows >= region->data() && rows < region->data() + region->num_bytes();
  };
  for (int slot_idx = 0; slot_idx < kNumSlots; ++slot_idx) {
    const Slot& slot = slots_[slot_idx];
    const std::shared_ptr<MemoryRegion>& window = slot.windows[peers_->rank()];
    if (!lie_in(window) && !lie_in(slot.expanded)) continue;
    if (!slot.live.has_value() || slot.live_routing_id != routing.id) {
      fail(ErrorCode::kStale, "rows lie in slot {}, whose result is no longer live or belongs to another Routing", slot_idx);
    }
    const bool as_contributions =
        shape_.layout == Layout::kCompact && !args.factors && rows == window->data() + slot.layout.lanes[0];
    return as_contributions ? slot_idx : -1;
  }
  return -1;
}

void Plan::Impl::combine(const CombineArgs& args) {
  peers_->check();
  const Routing::Data& routing = usable_routing(args.routing);
  const int slot_idx = choose_slot(args.slot, next_combine_slot_);
  check_combine(args, routing);
  const int in_place_slot = find_in_place_slot(args, routing);
  const int rank = peers_->rank();
  const std::chrono::milliseconds timeout = timeout_of(args.timeout);

  const Turn turn = signals_->begin(Track::kCombine, slot_idx);
  TurnGuard guard(peers_.get(), Phase::kCombineRows);
  next_combine_slot_ = (slot_idx + 1) % kNumSlots;
  const CallHeader header{.kind = CallKind::kCombine,
                          .in_place_slot = in_place_slot,
                          .with_weights = static_cast<bool>(args.carried_weights),
                          .routing_id = routing.id};
  for (const int peer : rotated(peers_->members(), rank)) {
    signals_->await_free(turn, peer, Phase::kCombineFree, timeout);
    signals_->post_enter(turn, peer, header);
  }

  // Contributions to own tokens stay where they are if they need no arithmetic.
  const bool compact = shape_.layout == Layout::kCompact;
  const bool own_in_place = compact && !args.factors;
  const auto* rows = static_cast<const std::byte*>(args.rows.data);
  const float* factors = static_cast<const float*>(args.factors.data);
  if (args.use_routing_weights) factors = routing.expanded_weights.data();
  const std::vector<std::byte*> windows = addresses(combine_windows_[slot_idx]);
  if (has_fault(Fault::kSignalBeforeRows)) signals_->post_data(turn);
  host::fold({.dtype = combine_lane_.dtype,
              .row_bytes = combine_lane_.row_bytes(),
              .num_ranks = dimensions_.num_ranks,
              .source_offsets = routing.source_offsets.data(),
              .source_token = routing.source_token.data(),
              .ordinal = routing.recv_ordinal.data(),
              .top_k = shape_.top_k,
              .expanded_row = compact ? nullptr : routing.expanded_row.data(),
              .rows = in_place_slot >= 0 ? nullptr : rows,
              .factors = factors,
              .skip_source = own_in_place ? rank : -1,
              .carried_weights = static_cast<const float*>(args.carried_weights.data),
              .topk_idx = routing.topk_idx.data(),
              .max_fan_out = dimensions_.max_fan_out,
              .layout = &combine_layout_,
              .windows = windows});
  host::finish_copies();
  signals_->post_data(turn);

  std::vector<const std::byte*> in_place(dimensions_.num_ranks, nullptr);
  for (const int peer : peers_->members()) {
    signals_->await_data(turn, peer, Phase::kCombineRows, header, timeout);
    const int peer_slot = signals_->in_place_slot(turn, peer);
    if (peer_slot >= 0) in_place[peer] = slots_[peer_slot].windows[peer]->data() + slots_[peer_slot].layout.lanes[0];
  }
  if (own_in_place) in_place[rank] = rows;

  const std::byte* own_window = windows[rank];
  host::reduce({.dtype = combine_lane_.dtype,
                .row_bytes = combine_lane_.row_bytes(),
                .num_tokens = routing.num_tokens,
                .max_fan_out = dimensions_.max_fan_out,
                .fan_out = routing.fan_out.data(),
                .destination = routing.destination.data(),
                .row = routing.row.data(),
                .returned_rows = own_window + combine_layout_.rows,
                .in_place = in_place,
                .biases = args.biases,
                .output = args.output,
                .top_k = shape_.top_k,
                .ordinal = routing.ordinal.data(),
                .returned_weights = reinterpret_cast<const float*>(own_window + combine_layout_.weights),
                .weights = args.returned_weights});

  // Owners of rows that were read in place may not let go of them before every reader is done.
  for (const int peer : peers_->members()) {
    if (signals_->in_place_slot(turn, peer) >= 0) signals_->post_done(turn, peer);
  }
  if (in_place_slot >= 0) {
    for (const int peer : peers_->members()) signals_->await_done(turn, peer, Phase::kCombineRead, timeout);
  }
  delay_point();
  signals_->post_free(signals_->next(Track::kCombine, slot_idx));
  guard.over();
}

}  // namespace tokenyard
