// Latency mode: a token's place at a destination is its own index among those of its source, so that nothing needs to be known
// before the first byte leaves. A bit per token says which places hold a row.

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/hooks.hpp"
#include "engine/host/host_plan.hpp"

namespace tokenyard {

void HostPlan::assign_places(Routing::Data* routing) const {
  const std::int64_t first_place = has_fault(Fault::kSourcesSharePlaces) ? 0 : peers_->rank() * shape_.max_tokens;
  for (std::int64_t token = 0; token < routing->num_tokens; ++token) {
    for (int o = 0; o < routing->fan_out[token]; ++o) {
      const std::int64_t entry = token * routing->max_fan_out + o;
      routing->row[entry] = signals_->is_masked(routing->destination[entry]) ? -1 : first_place + token;
    }
  }
  routing->max_recv_rows = dimensions_.worst_recv_rows;
}

void HostPlan::post_arrivals(const Slot& slot, const Routing::Data& routing) {
  if (has_fault(Fault::kArrivalsStayFromBefore) && routing.num_tokens == 0) return;
  const std::size_t num_words = arrival_words(shape_.max_tokens);
  arrivals_.assign(static_cast<std::size_t>(dimensions_.num_ranks) * num_words, 0);
  for (std::int64_t token = 0; token < routing.num_tokens; ++token) {
    for (int o = 0; o < routing.fan_out[token]; ++o) {
      const auto peer = static_cast<std::size_t>(routing.destination[token * routing.max_fan_out + o]);
      const std::int64_t bit = has_fault(Fault::kArrivalsOffByOne) ? (token + 1) % shape_.max_tokens : token;
      arrivals_[peer * num_words + static_cast<std::size_t>(bit) / 64] |= std::uint64_t{1} << (bit % 64);
    }
  }
  const std::size_t num_bytes = num_words * sizeof(std::uint64_t);
  for (const int peer : signals_->active()) {
    std::memcpy(slot.windows[peer]->data() + slot.layout.arrivals + static_cast<std::size_t>(peers_->rank()) * num_bytes,
                arrivals_.data() + static_cast<std::size_t>(peer) * num_words, num_bytes);
  }
}

void HostPlan::read_arrivals(const Slot& slot, Routing::Data* routing) const {
  const std::byte* window = slot.windows[peers_->rank()]->data();
  const std::size_t num_words = arrival_words(shape_.max_tokens);
  const auto* arrivals = reinterpret_cast<const std::uint64_t*>(window + slot.layout.arrivals);
  routing->received_row.clear();
  routing->source_token.clear();
  routing->source_offsets.assign(1, 0);
  const std::size_t num_read = has_fault(Fault::kArrivalsForgetLastWord) && num_words > 1 ? num_words - 1 : num_words;
  for (int source = 0; source < dimensions_.num_ranks; ++source) {
    const bool skipped = signals_->is_masked(source) && !has_fault(Fault::kMaskedRowsAreDelivered);
    for (std::size_t word = 0; word < num_read && !skipped; ++word) {
      for (std::uint64_t bits = arrivals[source * num_words + word]; bits != 0; bits &= bits - 1) {
        const auto token = static_cast<std::int64_t>(word * 64) + std::countr_zero(bits);
        routing->received_row.push_back(source * shape_.max_tokens + token);
        routing->source_token.push_back(static_cast<std::int32_t>(token));
      }
    }
    routing->source_offsets.push_back(static_cast<std::int64_t>(routing->received_row.size()));
  }
  routing->num_recv_rows = routing->source_offsets.back();

  const auto top_k = static_cast<std::size_t>(shape_.top_k);
  const auto num_view_rows =
      static_cast<std::size_t>(shape_.overflow == Overflow::kDrop ? slot.capacity : routing->num_recv_rows);
  routing->source_token.resize(num_view_rows, -1);
  routing->recv_ordinal.assign(num_view_rows, -1);
  routing->topk_idx.assign(num_view_rows * top_k, -1);
  if (routing->has_weights) routing->topk_weights.assign(num_view_rows * top_k, 0.0F);
  const auto* topk_idx = reinterpret_cast<const std::int32_t*>(window + slot.layout.topk_idx);
  const auto* topk_weights = reinterpret_cast<const float*>(window + slot.layout.topk_weights);
  const auto* ordinal = reinterpret_cast<const std::int32_t*>(window + slot.layout.ordinal);
  routing->expert_counts.assign(routing->num_local_experts, 0);
  for (std::size_t row = 0; row < routing->received_row.size(); ++row) {
    const auto place = static_cast<std::size_t>(routing->received_row[row]);
    routing->recv_ordinal[row] = ordinal[place];
    std::copy_n(topk_idx + place * top_k, top_k, routing->topk_idx.begin() + row * top_k);
    if (routing->has_weights) std::copy_n(topk_weights + place * top_k, top_k, routing->topk_weights.begin() + row * top_k);
    for (std::size_t k = 0; k < top_k; ++k) {
      const std::int32_t expert = topk_idx[place * top_k + k];
      if (expert >= routing->num_local_experts) check_announced(false);
      if (expert >= 0) ++routing->expert_counts[expert];
    }
  }
  set_extents(routing, slot.capacity);
}

}  // namespace tokenyard
