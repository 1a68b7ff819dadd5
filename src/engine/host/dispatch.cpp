// Dispatch in its two halves: count, place, push and signal; wait and deliver. What differs between the modes is in
// throughput.cpp and latency.cpp.

#include <algorithm>
#include <exception>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/check_args.hpp"
#include "engine/host/host_plan.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/host/count.hpp"
#include "kernels/host/expand.hpp"
#include "kernels/host/group_by_expert.hpp"
#include "kernels/host/push.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard {
namespace {

host::Stores stores_for_rows(std::int64_t num_rows, const Lane& lane) {
  return host::stores_for(static_cast<std::size_t>(num_rows) * lane.row_bytes());
}

}  // namespace

std::shared_ptr<Routing::Data> HostPlan::count_tokens(const DispatchArgs& args) {
  std::shared_ptr<Routing::Data> routing = routings_->take();
  const auto num_tokens = static_cast<std::size_t>(args.topk_idx.shape[0]);
  const auto top_k = static_cast<std::size_t>(shape_.top_k);
  const auto max_fan_out = static_cast<std::size_t>(dimensions_.max_fan_out);
  routing->key = routing_key();
  routing->generation = peers_->generation();
  routing->placement = placement_fingerprint_;
  routing->num_ranks = dimensions_.num_ranks;
  routing->max_fan_out = dimensions_.max_fan_out;
  routing->num_local_experts = num_local_experts();
  routing->num_tokens = args.topk_idx.shape[0];
  routing->fan_out.resize(num_tokens);
  routing->destination.resize(num_tokens * max_fan_out);
  routing->row.resize(num_tokens * max_fan_out);
  routing->ordinal.resize(num_tokens * top_k);
  routing->local_idx.resize(num_tokens * top_k);
  rank_counts_.assign(dimensions_.num_ranks, 0);
  expert_counts_.assign(static_cast<std::size_t>(dimensions_.num_ranks) * dimensions_.max_local_experts, 0);
  host::count({.topk_idx = args.topk_idx,
               .placement = &placement_,
               .rank = peers_->rank(),
               .max_fan_out = dimensions_.max_fan_out,
               .max_local_experts = dimensions_.max_local_experts,
               .fan_out = routing->fan_out.data(),
               .destination = routing->destination.data(),
               .row = routing->row.data(),
               .ordinal = routing->ordinal.data(),
               .local_idx = routing->local_idx.data(),
               .rank_counts = rank_counts_.data(),
               .expert_counts = expert_counts_.data()});
  return routing;
}

void HostPlan::set_extents(Routing::Data* routing, std::int64_t capacity) const {
  routing->num_expanded_rows = routing->num_recv_rows;
  if (shape_.layout == Layout::kExpertContiguous) {
    routing->num_expanded_rows = 0;
    for (const std::int64_t num_rows : routing->expert_counts) {
      routing->num_expanded_rows += aligned_rows(num_rows, shape_.expert_alignment);
    }
  } else if (shape_.layout == Layout::kExpertPadded) {
    routing->num_expanded_rows = routing->num_local_experts * shape_.expert_capacity;
  }
  const bool fixed = shape_.overflow == Overflow::kDrop;
  routing->num_view_rows = fixed ? capacity : routing->num_recv_rows;
  routing->num_expanded_view_rows = fixed && shape_.layout == Layout::kExpertContiguous
                                        ? max_expanded_rows(routing->num_local_experts)
                                        : routing->num_expanded_rows;
  // Announced pairs include those that will be dropped; what the tensors hold is the tighter bound then.
  routing->num_expanded_rows = std::min(routing->num_expanded_rows, routing->num_expanded_view_rows);
}

std::vector<ConstTensorView> HostPlan::quantize_lanes(const DispatchArgs& args) {
  const ConstTensorView& values = args.lanes[0];
  const std::int64_t num_tokens = values.shape[0];
  if (quantized_ == nullptr) {
    quantized_ = MemoryRegion::anonymous(static_cast<std::size_t>(shape_.max_tokens) *
                                         (shape_.lanes[0].row_bytes() + shape_.lanes[1].row_bytes()));
  }
  const TensorView codes(quantized_->data(), DataType::kFloat8E4M3, {num_tokens, shape_.lanes[0].num_elements});
  const TensorView scales(quantized_->data() + static_cast<std::size_t>(shape_.max_tokens) * shape_.lanes[0].row_bytes(),
                          shape_.lanes[1].dtype, {num_tokens, shape_.lanes[1].num_elements});
  quantize(values, shape_.quantization->format, codes, scales);
  std::vector<ConstTensorView> lanes{codes, scales};
  lanes.insert(lanes.end(), args.lanes.begin() + 1, args.lanes.end());
  return lanes;
}

void HostPlan::push_rows(const DispatchArgs& args, const Slot& slot, const Routing::Data& routing) {
  std::vector<ConstTensorView> quantized;
  if (shape_.quantization.has_value()) quantized = quantize_lanes(args);
  const std::vector<std::byte*> windows = active_windows(slot.windows);
  host::push({.lanes = quantized.empty() ? args.lanes : std::span<const ConstTensorView>(quantized),
              .layout = &slot.layout,
              .stores = stores_for_rows(routing.num_tokens * routing.max_fan_out, shape_.lanes[0]),
              .windows = windows,
              .num_tokens = routing.num_tokens,
              .max_fan_out = routing.max_fan_out,
              .fan_out = routing.fan_out.data(),
              .destination = routing.destination.data(),
              .row = routing.row.data(),
              .top_k = shape_.top_k,
              .ordinal = args.routing == nullptr ? routing.ordinal.data() : nullptr,
              .local_idx = routing.local_idx.data(),
              .topk_weights = args.topk_weights});
  host::finish_copies();
}

void HostPlan::trace_pushed(const Routing::Data& routing, CallTrace* trace) {
  traced_rows_.assign(dimensions_.num_ranks, 0);
  for (std::int64_t token = 0; token < routing.num_tokens; ++token) {
    const std::int64_t first = token * routing.max_fan_out;
    for (std::int64_t entry = first; entry < first + routing.fan_out[token]; ++entry) {
      if (routing.row[entry] >= 0) ++traced_rows_[routing.destination[entry]];
    }
  }
  std::int64_t row_bytes = 0;
  for (const Lane& lane : shape_.lanes) row_bytes += static_cast<std::int64_t>(lane.row_bytes());
  for (const int peer : signals_->active()) trace->traffic(peer, traced_rows_[peer], traced_rows_[peer] * row_bytes);
}

// All sizes follow from what was announced: rows that contradict it would be written past the end of tensors.
void HostPlan::check_announced(bool holds) const {
  if (holds) return;
  const int rank = peers_->rank();
  peers_->raise(
      {ErrorCode::kDisagreement, Phase::kDispatchRows, rank, rank},
      fmt::format("rank {}: rows arrived for experts for which they were not announced: a rank runs another version, or "
                  "memory is corrupted",
                  rank));
}

void HostPlan::index_rows(Routing::Data* routing) const {
  const auto num_pairs = static_cast<std::size_t>(routing->num_recv_rows * shape_.top_k);
  const auto num_local_experts = static_cast<std::size_t>(routing->num_local_experts);
  check_announced(std::all_of(routing->topk_idx.begin(), routing->topk_idx.end(),
                              [&](std::int32_t expert) { return expert < routing->num_local_experts; }));
  routing->expert_offsets.resize(num_local_experts + 1);
  routing->expert_dropped = routing->expert_counts;  // as announced; what is kept comes off below
  routing->expanded_row.assign(static_cast<std::size_t>(routing->num_view_rows * shape_.top_k), -1);
  routing->expert_source_offsets.resize(num_local_experts * (routing->num_ranks + 1));
  host::group_by_expert({.layout = shape_.layout,
                         .alignment = shape_.expert_alignment,
                         .capacity = shape_.expert_capacity,
                         .num_local_experts = routing->num_local_experts,
                         .num_rows = routing->num_recv_rows,
                         .top_k = shape_.top_k,
                         .topk_idx = routing->topk_idx.data(),
                         .num_ranks = routing->num_ranks,
                         .source_offsets = routing->source_offsets.data(),
                         .expert_counts = routing->expert_counts.data(),
                         .expert_offsets = routing->expert_offsets.data(),
                         .expanded_row = routing->expanded_row.data(),
                         .expert_source_offsets = routing->expert_source_offsets.data()});
  bool any_more = false;
  for (std::size_t expert = 0; expert < num_local_experts; ++expert) {
    routing->expert_dropped[expert] -= routing->expert_counts[expert];
    any_more |= routing->expert_dropped[expert] < 0;
  }
  check_announced(!any_more);
  if (shape_.layout == Layout::kCompact) return;
  if (shape_.layout == Layout::kExpertContiguous) routing->num_expanded_rows = routing->expert_offsets[num_local_experts];
  routing->gather_idx.assign(routing->num_expanded_view_rows, -1);
  routing->expanded_source_token.assign(routing->num_expanded_view_rows, -1);
  if (routing->has_weights) routing->expanded_weights.assign(routing->num_expanded_view_rows, 0.0F);
  for (std::size_t pair = 0; pair < num_pairs; ++pair) {
    const std::int64_t expanded_row = routing->expanded_row[pair];
    if (expanded_row < 0) continue;
    const std::size_t row = pair / static_cast<std::size_t>(shape_.top_k);
    routing->gather_idx[expanded_row] = static_cast<std::int32_t>(row);
    routing->expanded_source_token[expanded_row] = routing->source_token[row];
    if (routing->has_weights) routing->expanded_weights[expanded_row] = routing->topk_weights[pair];
  }
}

void HostPlan::deliver(const Slot& slot, const Routing::Data& routing, const std::vector<TensorView>& outputs) const {
  const std::byte* window = slot.windows[peers_->rank()]->data();
  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    const std::byte* received = window + slot.layout.lanes[lane_idx];
    if (outputs[lane_idx].data == received) continue;
    host::expand({.num_rows = routing.num_recv_rows,
                  .top_k = shape_.top_k,
                  .expanded_row = shape_.layout == Layout::kCompact ? nullptr : routing.expanded_row.data(),
                  .received_row = shape_.mode == Mode::kLatency ? routing.received_row.data() : nullptr,
                  .stores = stores_for_rows(routing.num_expanded_rows, shape_.lanes[lane_idx]),
                  .row_bytes = shape_.lanes[lane_idx].row_bytes(),
                  .received = received,
                  .expanded = outputs[lane_idx]});
    if (shape_.layout == Layout::kExpertContiguous && shape_.expert_alignment > 1) {
      host::zero_gaps({.num_local_experts = routing.num_local_experts,
                       .expert_counts = routing.expert_counts.data(),
                       .expert_offsets = routing.expert_offsets.data(),
                       .expanded = outputs[lane_idx]});
    }
  }
}

DispatchCall HostPlan::begin(const DispatchArgs& args) {
  // Nothing is sent before all that can be wrong on this rank alone has been checked.
  peers_->check();
  const int slot_idx = choose_slot(args.slot, next_dispatch_slot_);
  check_execution(args.execution);
  check_dispatch(args, slot_idx);
  const bool cached = args.routing != nullptr;
  CallTrace trace(peers_->trace_track(), cached ? "begin cached dispatch" : "begin dispatch");
  DispatchCall call{};
  if (!cached) trace.step("count");
  call.made = cached ? nullptr : count_tokens(args);
  call.routing = cached ? args.routing->data() : call.made;
  call.timeout = timeout_of(args.timeout);
  call.in_slot = args.outputs.empty() && args.allocate == nullptr;
  call.allocate = args.allocate;
  call.outputs.assign(args.outputs.begin(), args.outputs.end());

  Slot& slot = slots_[slot_idx];
  const Turn turn = signals_->begin(Track::kDispatch, slot_idx);
  TurnGuard guard(peers_.get(), Phase::kDispatchRows);
  call.turn = turn;
  trace.turn(static_cast<int>(place_.plan_idx), turn.slot, turn.number, turn.generation);
  next_dispatch_slot_ = (slot_idx + 1) % kNumSlots;
  call.header = {.kind = cached ? CallKind::kCachedDispatch : CallKind::kDispatch,
                 .with_weights = static_cast<bool>(args.topk_weights),
                 .routing_id = cached ? call.routing->id : 0,
                 .placement = placement_fingerprint_};
  if (!cached) {
    call.made->id = (static_cast<std::uint64_t>(turn.generation) << 48) + (static_cast<std::uint64_t>(place_.plan_idx) << 32) +
                    ++num_routings_;
    call.made->has_weights = call.header.with_weights;
  }
  slot.live = turn;
  slot.live_routing_id = call.routing->id;

  const Deadline deadline(call.timeout);
  const bool counts_first = shape_.mode == Mode::kThroughput && !cached;
  if (counts_first) {
    exchange_counts(turn, call.header, call.made.get(), deadline, &trace);
  } else {
    trace.step("await free");
    for (const int peer : signals_->active()) signals_->await_free(turn, peer, Phase::kDispatchFree, deadline);
  }
  if (shape_.mode == Mode::kThroughput) {
    ensure_capacity(slot_idx, call.routing->max_recv_rows, call.timeout);
    find_outputs(&call);
  } else if (!cached) {
    trace.step("place");
    assign_places(call.made.get());
  }

  if (has_fault(Fault::kSignalBeforeRows)) signals_->post_data(turn);
  trace.step("push");
  push_rows(args, slot, *call.routing);
  if (shape_.mode == Mode::kLatency && !cached) post_arrivals(slot, *call.routing);
  if (trace.is_on()) trace_pushed(*call.routing, &trace);
  trace.step("signal");
  if (!counts_first) signals_->post_enter(turn, call.header);
  signals_->post_data(turn);
  guard.over();
  return call;
}

Received HostPlan::complete(DispatchCall* call) {
  const Turn& turn = call->turn;
  Slot& slot = slots_[turn.slot];
  if (!is_live(turn)) fail(ErrorCode::kStale, "the group has recovered from a failure since this call was begun");
  CallTrace trace(peers_->trace_track(), "complete dispatch");
  trace.turn(static_cast<int>(place_.plan_idx), turn.slot, turn.number, turn.generation);
  TurnGuard guard(peers_.get(), Phase::kDispatchRows);
  trace.step("await rows");
  await_data(turn, Phase::kDispatchRows, call->header, call->timeout);
  trace.step("index");
  if (call->made != nullptr) {
    if (shape_.mode == Mode::kThroughput) {
      read_rows(slot, call->made.get());
    } else {
      read_arrivals(slot, call->made.get());
    }
    index_rows(call->made.get());
  }
  if (shape_.mode == Mode::kLatency) find_outputs(call);
  for (const int source : signals_->active()) {
    const auto num_rows = call->routing->source_offsets[source + 1] - call->routing->source_offsets[source];
    const int counted = has_fault(Fault::kCountersOfNeighbour) && source > 0 ? source - 1 : source;
    counters_[counted].num_rows.fetch_add(static_cast<std::uint64_t>(num_rows), std::memory_order_relaxed);
  }
  trace.step("deliver");
  if (call->output_error == nullptr) deliver(slot, *call->routing, call->outputs);

  const bool stays = call->in_slot && call->output_error == nullptr;
  if (!stays) slot.live.reset();
  if (!stays || shape_.mode == Mode::kLatency) {
    delay_point();
    signals_->post_free(signals_->next(Track::kDispatch, turn.slot));
  }
  guard.over();
  if (call->output_error != nullptr) std::rethrow_exception(call->output_error);

  const RecvSizes sizes = sizes_of(*call->routing);
  return Received(std::make_unique<Received::Impl>(shared_from_this(), turn, stays, sizes, Routing(call->routing),
                                                   std::move(call->outputs)));
}

}  // namespace tokenyard
