// Combine in its two halves: fold and signal; wait and reduce.

#include <cstring>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/host/host_plan.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/host/fold.hpp"
#include "kernels/host/reduce.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard {

void HostPlan::give_weights(const CombineArgs& args, const Turn& turn, const Routing::Data& routing, int peer) {
  auto* given = reinterpret_cast<float*>(combine_windows_[turn.slot][peer]->data() + combine_layout_.given_weights) +
                peers_->rank() * shape_.max_tokens * shape_.top_k;
  for (std::int64_t token = 0; token < routing.num_tokens; ++token) {
    for (int k = 0; k < shape_.top_k; ++k) {
      std::memcpy(given + token * shape_.top_k + k, args.topk_weights.at(token, k), sizeof(float));
    }
  }
}

void HostPlan::take_weights(const Turn& turn, const Routing::Data& routing) {
  const int slot = has_fault(Fault::kGivenWeightsOfOtherSlot) ? 1 - turn.slot : turn.slot;
  const auto* given =
      reinterpret_cast<const float*>(combine_windows_[slot][peers_->rank()]->data() + combine_layout_.given_weights);
  given_factors_.assign(routing.num_expanded_view_rows, 0.0F);
  for (const int source : signals_->active()) {  // a masked rank may be writing its weights
    for (std::int64_t row = routing.source_offsets[source]; row < routing.source_offsets[source + 1]; ++row) {
      const float* weights = given + (source * shape_.max_tokens + routing.source_token[row]) * shape_.top_k;
      for (int k = 0; k < shape_.top_k; ++k) {
        const std::int64_t expanded_row = routing.expanded_row[row * shape_.top_k + k];
        if (expanded_row >= 0) given_factors_[expanded_row] = weights[k];
      }
    }
  }
}

CombineCall HostPlan::begin(const CombineArgs& args) {
  peers_->check();
  const Routing::Data& routing = usable_routing(args.routing);
  const int slot_idx = choose_slot(args.slot, next_combine_slot_);
  if (combine_pending_[slot_idx]) {
    fail_argument("slot {} still has a combine that was begun: complete it first (at most {} are under way at once)", slot_idx,
                  kNumSlots);
  }
  check_execution(args.execution);
  check_combine(args, routing);
  const int in_place_slot = find_in_place_slot(args, routing);

  CallTrace trace(peers_->trace_track(), "begin combine");
  CombineCall call{};
  call.routing = args.routing->data();
  call.args = args;
  call.timeout = timeout_of(args.timeout);
  call.turn = signals_->begin(Track::kCombine, slot_idx);
  combine_pending_[slot_idx] = true;
  if (in_place_slot >= 0) ++slots_[in_place_slot].num_readings;
  trace.turn(static_cast<int>(place_.plan_idx), slot_idx, call.turn.number, call.turn.generation);
  TurnGuard guard(peers_.get(), Phase::kCombineRows);
  next_combine_slot_ = (slot_idx + 1) % kNumSlots;
  call.header = {.kind = CallKind::kCombine,
                 .in_place_slot = in_place_slot,
                 .with_weights = static_cast<bool>(args.carried_weights),
                 .with_given_weights = static_cast<bool>(args.topk_weights),
                 .routing_id = routing.id};
  trace.step("await free");
  const Deadline deadline(call.timeout);
  for (const int peer : signals_->active()) {
    if (!signals_->await_free(call.turn, peer, Phase::kCombineFree, deadline)) continue;
    if (args.topk_weights) {
      give_weights(args, call.turn, routing, peer);
      signals_->post_enter(call.turn, peer, call.header);
    }
  }

  const float* factors = static_cast<const float*>(args.factors.data);
  if (args.use_routing_weights) factors = routing.expanded_weights.data();
  if (args.topk_weights) {
    trace.step("take weights");
    for (const int peer : signals_->active()) {
      signals_->await_enter(call.turn, peer, Phase::kCombineWeights, call.header, deadline);
    }
    take_weights(call.turn, routing);
    factors = given_factors_.data();
  }
  if (has_fault(Fault::kSignalBeforeRows)) signals_->post_data(call.turn);
  const std::vector<std::byte*> windows = active_windows(combine_windows_[slot_idx]);
  trace.step("fold");
  host::fold({.dtype = combine_lane_.dtype,
              .row_bytes = combine_lane_.row_bytes(),
              .stores = host::stores_for(static_cast<std::size_t>(routing.num_recv_rows) * combine_lane_.row_bytes()),
              .returned_row_bytes = returned_row_bytes(shape_),
              .as_float8 = shape_.combine_as_float8,
              .num_ranks = dimensions_.num_ranks,
              .source_offsets = routing.source_offsets.data(),
              .source_token = routing.source_token.data(),
              .ordinal = routing.recv_ordinal.data(),
              .top_k = shape_.top_k,
              .expanded_row = shape_.layout == Layout::kCompact ? nullptr : routing.expanded_row.data(),
              .rows = in_place_slot >= 0 ? nullptr : static_cast<const std::byte*>(args.rows.data),
              .factors = factors,
              .skip_source = own_stay_in_place(args) ? peers_->rank() : -1,
              .carried_weights = static_cast<const float*>(args.carried_weights.data),
              .topk_idx = routing.topk_idx.data(),
              .rank = peers_->rank(),
              .places = return_places(shape_, dimensions_),
              .layout = &combine_layout_,
              .windows = windows});
  host::finish_copies();
  if (trace.is_on()) trace_folded(args, routing, &trace);
  trace.step("signal");
  if (!args.topk_weights) signals_->post_enter(call.turn, call.header);
  signals_->post_data(call.turn);
  guard.over();
  return call;
}

void HostPlan::trace_folded(const CombineArgs& args, const Routing::Data& routing, CallTrace* trace) const {
  for (const int peer : signals_->active()) {
    const std::int64_t num_rows = routing.source_offsets[peer + 1] - routing.source_offsets[peer];
    const bool stay = peer == peers_->rank() && own_stay_in_place(args);
    trace->traffic(peer, num_rows, stay ? 0 : num_rows * static_cast<std::int64_t>(returned_row_bytes(shape_)));
  }
}

void HostPlan::complete(CombineCall* call) {
  const Turn& turn = call->turn;
  const CombineArgs& args = call->args;
  const Routing::Data& routing = *call->routing;
  if (turn.generation != peers_->generation()) {
    fail(ErrorCode::kStale, "the group has recovered from a failure since this call was begun");
  }
  CallTrace trace(peers_->trace_track(), "complete combine");
  trace.turn(static_cast<int>(place_.plan_idx), turn.slot, turn.number, turn.generation);
  TurnGuard guard(peers_.get(), Phase::kCombineRows);
  trace.step("await contributions");
  await_data(turn, Phase::kCombineRows, call->header, call->timeout);

  std::vector<const std::byte*> in_place(dimensions_.num_ranks, nullptr);
  std::vector<std::uint8_t> absent(dimensions_.num_ranks, 1);
  for (const int peer : signals_->active()) {
    absent[peer] = 0;
    const int peer_slot = signals_->in_place_slot(turn, peer);
    if (peer_slot >= 0) in_place[peer] = slots_[peer_slot].windows[peer]->data() + slots_[peer_slot].layout.lanes[0];
  }
  if (own_stay_in_place(args)) in_place[peers_->rank()] = static_cast<const std::byte*>(args.rows.data);

  trace.step("reduce");
  const std::byte* own_window = combine_windows_[turn.slot][peers_->rank()]->data();
  host::reduce({.dtype = combine_lane_.dtype,
                .row_bytes = combine_lane_.row_bytes(),
                .stores = host::stores_for(static_cast<std::size_t>(routing.num_tokens) * combine_lane_.row_bytes()),
                .returned_row_bytes = returned_row_bytes(shape_),
                .as_float8 = shape_.combine_as_float8,
                .num_tokens = routing.num_tokens,
                .max_fan_out = dimensions_.max_fan_out,
                .fan_out = routing.fan_out.data(),
                .destination = routing.destination.data(),
                .row = routing.row.data(),
                .absent = absent,
                .places = return_places(shape_, dimensions_),
                .returned_rows = own_window + combine_layout_.rows,
                .in_place = in_place,
                .biases = args.biases,
                .output = args.output,
                .top_k = shape_.top_k,
                .ordinal = routing.ordinal.data(),
                .returned_weights = reinterpret_cast<const float*>(own_window + combine_layout_.weights),
                .weights = args.returned_weights});

  // Owners of rows that were read in place may not let go of them before every reader is done.
  for (const int peer : signals_->active()) {
    if (signals_->in_place_slot(turn, peer) >= 0) signals_->post_done(turn, peer);
  }
  if (call->header.in_place_slot >= 0) {
    trace.step("await readers");
    const Deadline deadline(call->timeout);
    for (const int peer : signals_->active()) signals_->await_done(turn, peer, Phase::kCombineRead, deadline);
    --slots_[call->header.in_place_slot].num_readings;
    free_if_unread(call->header.in_place_slot);
  }
  delay_point();
  signals_->post_free(signals_->next(Track::kCombine, turn.slot));
  combine_pending_[turn.slot] = false;
  guard.over();
}

}  // namespace tokenyard
