// Throughput mode: every rank learns all counts before the first row moves, and so knows every final place.

#include <algorithm>
#include <cstring>

#include "engine/host/host_plan.hpp"
#include "kernels/host/place.hpp"

namespace tokenyard {

void HostPlan::exchange_counts(const Turn& turn, const CallHeader& header, Routing::Data* routing, const Deadline& deadline,
                               CallTrace* trace) {
  const int rank = peers_->rank();
  const int num_ranks = dimensions_.num_ranks;
  const auto max_local_experts = static_cast<std::size_t>(dimensions_.max_local_experts);
  const auto rank_counts_of = [&](int owner) {
    return reinterpret_cast<std::int32_t*>(control_[owner]->data() + control_layout_.rank_counts[turn.slot]);
  };
  const auto expert_counts_of = [&](int owner) {
    return reinterpret_cast<std::int32_t*>(control_[owner]->data() + control_layout_.expert_counts[turn.slot]);
  };
  trace->step("exchange counts");
  for (const int peer : signals_->active()) {
    signals_->await_free(turn, peer, Phase::kDispatchFree, deadline);
    std::memcpy(rank_counts_of(peer) + rank * num_ranks, rank_counts_.data(), num_ranks * sizeof(std::int32_t));
    std::memcpy(expert_counts_of(peer) + rank * max_local_experts, expert_counts_.data() + peer * max_local_experts,
                max_local_experts * sizeof(std::int32_t));
    signals_->post_enter(turn, peer, header);
  }
  for (const int peer : signals_->active()) signals_->await_enter(turn, peer, Phase::kDispatchCounts, header, deadline);

  trace->step("place");
  const std::int32_t* rank_counts = rank_counts_of(rank);
  routing->max_recv_rows = host::max_recv_rows(rank_counts, num_ranks);
  ensure_capacity(turn.slot, routing->max_recv_rows, deadline.timeout());
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

  // What was announced, per local expert. index_rows turns it into what arrived and what was lost.
  routing->expert_counts.assign(routing->num_local_experts, 0);
  for (int source = 0; source < num_ranks; ++source) {
    for (int expert = 0; expert < routing->num_local_experts; ++expert) {
      routing->expert_counts[expert] += expert_counts_of(rank)[source * max_local_experts + expert];
    }
  }
  set_extents(routing, slots_[turn.slot].capacity);
}

void HostPlan::read_rows(const Slot& slot, Routing::Data* routing) const {
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
}

}  // namespace tokenyard
