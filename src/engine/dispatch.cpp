// Dispatch: count, place, push, signal, deliver.

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/check_args.hpp"
#include "engine/plan_impl.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/host/count.hpp"
#include "kernels/host/expand.hpp"
#include "kernels/host/group_by_expert.hpp"
#include "kernels/host/place.hpp"
#include "kernels/host/push.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard {

std::shared_ptr<Routing::Data> Plan::Impl::count_tokens(const DispatchArgs& args) {
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

void Plan::Impl::exchange_counts(const Turn& turn, const CallHeader& header, Routing::Data* routing,
                                 std::chrono::milliseconds timeout) {
  const int rank = peers_->rank();
  const int num_ranks = dimensions_.num_ranks;
  const auto max_local_experts = static_cast<std::size_t>(dimensions_.max_local_experts);
  const auto rank_counts_of = [&](int owner) {
    return reinterpret_cast<std::int32_t*>(control_[owner]->data() + control_layout_.rank_counts[turn.slot]);
  };
  const auto expert_counts_of = [&](int owner) {
    return reinterpret_cast<std::int32_t*>(control_[owner]->data() + control_layout_.expert_counts[turn.slot]);
  };
  for (const int peer : rotated(peers_->members(), rank)) {
    signals_->await_free(turn, peer, Phase::kDispatchFree, timeout);
    std::memcpy(rank_counts_of(peer) + rank * num_ranks, rank_counts_.data(), num_ranks * sizeof(std::int32_t));
    std::memcpy(expert_counts_of(peer) + rank * max_local_experts, expert_counts_.data() + peer * max_local_experts,
                max_local_experts * sizeof(std::int32_t));
    signals_->post_enter(turn, peer, header);
  }
  for (const int peer : peers_->members()) signals_->await_enter(turn, peer, Phase::kDispatchCounts, header, timeout);

  const std::int32_t* rank_counts = rank_counts_of(rank);
  routing->max_recv_rows = host::max_recv_rows(rank_counts, num_ranks);
  ensure_capacity(turn.slot, routing->max_recv_rows, timeout);
  routing->source_offsets.resize(num_ranks + 1);
  host::place({.rank_counts = rank_counts,
               .rank = rank,
               .num_ranks = num_ranks,
               .capacity = slots_[turn.slot].capacity,
               .num_tokens = routing->num_tokens,
               .max_fan_out = routing->max_fan_out,
               .fan_out = routing->fan_out.data(),
               .destination = routing->destination.data(),
               .row = routing->row.data(),
               .source_offsets = routing->source_offsets.data()});
  routing->num_recv_rows = routing->source_offsets[num_ranks];

  // What was announced, per local expert. read_metadata turns it into what arrived and what was lost.
  routing->expert_counts.assign(routing->num_local_experts, 0);
  for (int source = 0; source < num_ranks; ++source) {
    for (int expert = 0; expert < routing->num_local_experts; ++expert) {
      routing->expert_counts[expert] += expert_counts_of(rank)[source * max_local_experts + expert];
    }
  }
  routing->num_expanded_rows = routing->num_recv_rows;
  if (shape_.layout == Layout::kExpertContiguous) {
    routing->num_expanded_rows = 0;
    for (const std::int64_t num_rows : routing->expert_counts) {
      routing->num_expanded_rows +=
          (num_rows + shape_.expert_alignment - 1) / shape_.expert_alignment * shape_.expert_alignment;
    }
  } else if (shape_.layout == Layout::kExpertPadded) {
    routing->num_expanded_rows = routing->num_local_experts * shape_.expert_capacity;
  }
  const bool fixed = shape_.overflow == Overflow::kDrop;
  routing->num_view_rows = fixed ? slots_[turn.slot].capacity : routing->num_recv_rows;
  routing->num_expanded_view_rows =
      fixed && shape_.layout == Layout::kExpertContiguous ? max_expanded_rows() : routing->num_expanded_rows;
  // Announced pairs include those that will be dropped; what the tensors hold is the tighter bound then.
  routing->num_expanded_rows = std::min(routing->num_expanded_rows, routing->num_expanded_view_rows);
}

std::int64_t Plan::Impl::max_expanded_rows() const {
  // Every expert's group may need a gap of up to alignment - 1 rows.
  return dimensions_.first_recv_capacity * shape_.top_k +
         static_cast<std::int64_t>(num_local_experts()) * (shape_.expert_alignment - 1);
}

RecvSizes Plan::Impl::sizes_of(const Routing::Data& routing) const {
  RecvSizes sizes;
  sizes.num_recv_rows = routing.num_recv_rows;
  sizes.num_expanded_rows = routing.num_expanded_rows;
  sizes.num_tensor_rows = shape_.layout == Layout::kCompact ? routing.num_view_rows : routing.num_expanded_view_rows;
  sizes.num_local_experts = routing.num_local_experts;
  return sizes;
}

std::vector<TensorView> Plan::Impl::find_outputs(const DispatchArgs& args, const Slot& slot, const RecvSizes& sizes) const {
  std::vector<TensorView> outputs(args.outputs.begin(), args.outputs.end());
  if (args.allocate != nullptr) {
    outputs.resize(shape_.lanes.size());
    args.allocate(sizes, outputs);
  }
  for (std::size_t lane_idx = 0; lane_idx < outputs.size(); ++lane_idx) {
    const TensorView wanted =
        tensor_of_rows(shape_, shape_.lanes[lane_idx], sizes.num_local_experts, sizes.num_tensor_rows, nullptr);
    check_output(fmt::format("the output for lane {}", lane_idx), outputs[lane_idx], wanted);
  }
  if (!outputs.empty()) return outputs;

  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    std::byte* data = shape_.layout == Layout::kCompact ? slot.windows[peers_->rank()]->data() + slot.layout.lanes[lane_idx]
                                                        : slot.expanded->data() + slot.expanded_lanes[lane_idx];
    outputs.push_back(tensor_of_rows(shape_, shape_.lanes[lane_idx], sizes.num_local_experts, sizes.num_tensor_rows, data));
  }
  return outputs;
}

void Plan::Impl::push_rows(const DispatchArgs& args, const Slot& slot, const Routing::Data& routing) const {
  const std::vector<std::byte*> windows = addresses(slot.windows);
  host::push({.lanes = args.lanes,
              .layout = &slot.layout,
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

void Plan::Impl::read_metadata(const Slot& slot, Routing::Data* routing) const {
  const std::byte* window = slot.windows[peers_->rank()]->data();
  const auto num_rows = static_cast<std::size_t>(routing->num_recv_rows);
  const auto num_view_rows = static_cast<std::size_t>(routing->num_view_rows);
  const auto top_k = static_cast<std::size_t>(shape_.top_k);
  const auto read = [window](auto* values, std::size_t offset, std::size_t num_values, std::size_t num_view_values,
                             auto filler) {
    values->assign(num_view_values, filler);
    std::copy_n(reinterpret_cast<const decltype(filler)*>(window + offset), num_values, values->begin());
  };
  read(&routing->topk_idx, slot.layout.topk_idx, num_rows * top_k, num_view_rows * top_k, std::int32_t{-1});
  read(&routing->source_token, slot.layout.source_token, num_rows, num_view_rows, std::int32_t{-1});
  read(&routing->recv_ordinal, slot.layout.ordinal, num_rows, num_view_rows, std::int32_t{-1});
  if (routing->has_weights) {
    read(&routing->topk_weights, slot.layout.topk_weights, num_rows * top_k, num_view_rows * top_k, 0.0F);
  }

  const std::vector<std::int64_t> announced = routing->expert_counts;
  const auto num_local_experts = static_cast<std::size_t>(routing->num_local_experts);
  // All sizes follow from the announced counts: rows that contradict them would be written past the end of tensors.
  const auto check_announced = [&](bool holds) {
    if (holds) return;
    const int rank = peers_->rank();
    peers_->raise(
        {ErrorCode::kDisagreement, Phase::kDispatchRows, rank, rank},
        fmt::format("rank {}: rows arrived for experts for which they were not announced: a rank runs another version, or "
                    "memory is corrupted",
                    rank));
  };
  check_announced(std::all_of(routing->topk_idx.begin(), routing->topk_idx.end(),
                              [&](std::int32_t expert) { return expert < routing->num_local_experts; }));
  routing->expert_offsets.resize(num_local_experts + 1);
  routing->expert_dropped.resize(num_local_experts);
  routing->expanded_row.assign(num_view_rows * top_k, -1);
  host::group_by_expert({.layout = shape_.layout,
                         .alignment = shape_.expert_alignment,
                         .capacity = shape_.expert_capacity,
                         .num_local_experts = routing->num_local_experts,
                         .num_rows = routing->num_recv_rows,
                         .top_k = shape_.top_k,
                         .topk_idx = routing->topk_idx.data(),
                         .expert_counts = routing->expert_counts.data(),
                         .expert_offsets = routing->expert_offsets.data(),
                         .expert_dropped = routing->expert_dropped.data(),
                         .expanded_row = routing->expanded_row.data()});
  for (std::size_t expert = 0; expert < num_local_experts; ++expert) {
    routing->expert_dropped[expert] = announced[expert] - routing->expert_counts[expert];
    check_announced(routing->expert_dropped[expert] >= 0);
  }
  if (shape_.layout == Layout::kCompact) return;
  if (shape_.layout == Layout::kExpertContiguous) routing->num_expanded_rows = routing->expert_offsets[num_local_experts];
  routing->gather_idx.assign(routing->num_expanded_view_rows, -1);
  if (routing->has_weights) routing->expanded_weights.assign(routing->num_expanded_view_rows, 0.0F);
  for (std::size_t pair = 0; pair < num_rows * top_k; ++pair) {
    const std::int64_t expanded_row = routing->expanded_row[pair];
    if (expanded_row < 0) continue;
    routing->gather_idx[expanded_row] = static_cast<std::int32_t>(pair / top_k);
    if (routing->has_weights) routing->expanded_weights[expanded_row] = routing->topk_weights[pair];
  }
}

void Plan::Impl::deliver(const Slot& slot, const Routing::Data& routing, const std::vector<TensorView>& outputs) const {
  const std::byte* window = slot.windows[peers_->rank()]->data();
  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    const std::size_t row_bytes = shape_.lanes[lane_idx].row_bytes();
    const std::byte* received = window + slot.layout.lanes[lane_idx];
    auto* target = static_cast<std::byte*>(outputs[lane_idx].data);
    if (target == received) continue;
    if (shape_.layout == Layout::kCompact) {
      for (std::int64_t row = 0; row < routing.num_recv_rows; ++row) {
        host::copy_row(target + row * row_bytes, received + row * row_bytes, row_bytes);
      }
      host::finish_copies();
      continue;
    }
    host::expand({.num_rows = routing.num_recv_rows,
                  .top_k = shape_.top_k,
                  .expanded_row = routing.expanded_row.data(),
                  .row_bytes = row_bytes,
                  .received = received,
                  .expanded = target});
    if (shape_.layout == Layout::kExpertContiguous) {
      host::zero_gaps({.num_local_experts = routing.num_local_experts,
                       .expert_counts = routing.expert_counts.data(),
                       .expert_offsets = routing.expert_offsets.data(),
                       .row_bytes = row_bytes,
                       .expanded = target});
    }
  }
}

Received Plan::Impl::dispatch(const DispatchArgs& args) {
  // Nothing is sent before all that can be wrong on this rank alone has been checked.
  peers_->check();
  const int slot_idx = choose_slot(args.slot, next_dispatch_slot_);
  check_dispatch(args, slot_idx);
  const bool cached = args.routing != nullptr;
  std::shared_ptr<Routing::Data> made = cached ? nullptr : count_tokens(args);
  std::shared_ptr<const Routing::Data> routing = cached ? args.routing->data() : made;
  const std::chrono::milliseconds timeout = timeout_of(args.timeout);

  Slot& slot = slots_[slot_idx];
  const Turn turn = signals_->begin(Track::kDispatch, slot_idx);
  TurnGuard guard(peers_.get(), Phase::kDispatchRows);
  next_dispatch_slot_ = (slot_idx + 1) % kNumSlots;
  const CallHeader header{.kind = cached ? CallKind::kCachedDispatch : CallKind::kDispatch,
                          .with_weights = static_cast<bool>(args.topk_weights),
                          .routing_id = cached ? routing->id : 0,
                          .placement = placement_fingerprint_};
  if (cached) {
    for (const int peer : rotated(peers_->members(), peers_->rank())) {
      signals_->await_free(turn, peer, Phase::kDispatchFree, timeout);
      signals_->post_enter(turn, peer, header);
    }
    ensure_capacity(slot_idx, routing->max_recv_rows, timeout);
  } else {
    made->id =
        (static_cast<std::uint64_t>(turn.generation) << 48) + (static_cast<std::uint64_t>(plan_idx_) << 32) + ++num_routings_;
    made->has_weights = header.with_weights;
    exchange_counts(turn, header, made.get(), timeout);
  }

  // From here on the others count on this rank: an error of the caller's callback or outputs must wait until the turn is over.
  const RecvSizes announced = sizes_of(*routing);
  std::exception_ptr output_error;
  std::vector<TensorView> outputs;
  const bool in_slot = args.outputs.empty() && args.allocate == nullptr;
  try {
    if (in_slot && shape_.layout != Layout::kCompact) ensure_expanded(&slot, announced.num_tensor_rows);
    outputs = find_outputs(args, slot, announced);
  } catch (...) {
    output_error = std::current_exception();
  }

  if (has_fault(Fault::kSignalBeforeRows)) signals_->post_data(turn);
  push_rows(args, slot, *routing);
  signals_->post_data(turn);
  for (const int peer : peers_->members()) signals_->await_data(turn, peer, Phase::kDispatchRows, header, timeout);

  if (!cached) read_metadata(slot, made.get());
  if (output_error == nullptr) deliver(slot, *routing, outputs);
  if (output_error != nullptr || !in_slot) {
    signals_->post_free(signals_->next(Track::kDispatch, slot_idx));
  } else {
    slot.live = turn;
    slot.live_routing_id = routing->id;
  }
  guard.over();
  if (output_error != nullptr) std::rethrow_exception(output_error);

  TensorView combine_buffer;
  if (in_slot && shape_.layout == Layout::kCompact && combine_lane_.num_elements > 0) {
    combine_buffer = {slot.windows[peers_->rank()]->data() + slot.layout.lanes[0],
                      combine_lane_.dtype,
                      {announced.num_tensor_rows, combine_lane_.num_elements}};
  }
  return Received(std::make_unique<Received::Impl>(shared_from_this(), turn, in_slot, sizes_of(*routing), Routing(routing),
                                                   std::move(outputs), combine_buffer));
}

}  // namespace tokenyard
