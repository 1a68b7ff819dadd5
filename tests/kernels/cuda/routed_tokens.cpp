#include "tests/kernels/cuda/routed_tokens.hpp"

#include <algorithm>
#include <utility>

#include "kernels/host/count.hpp"
#include "kernels/host/place.hpp"

namespace tokenyard::test {
namespace {

// Some experts stand on several ranks, and some ranks may have none.
PlacementTable random_table(RandomBits& random, int num_experts, int num_ranks) {
  PlacementTable table;
  table.experts_of.resize(num_ranks);
  for (int expert = 0; expert < num_experts; ++expert) {
    const int num_replicas = random.one_in(3) ? static_cast<int>(random.from(1, std::min(num_ranks, 3))) : 1;
    const int first = static_cast<int>(random.from(0, num_ranks - 1));
    for (int i = 0; i < num_replicas; ++i) table.experts_of[(first + i) % num_ranks].push_back(expert);
  }
  return table;
}

void draw_ids(RandomBits& random, const Shape& shape, RoutedTokens* tokens) {
  const bool one_expert = random.one_in(8);
  const bool some_missing = random.one_in(2);
  tokens->ids.resize(tokens->num_tokens * shape.top_k);
  std::vector<std::int64_t> experts(shape.num_experts);
  for (int expert = 0; expert < shape.num_experts; ++expert) experts[expert] = expert;
  for (std::int64_t token = 0; token < tokens->num_tokens; ++token) {
    for (int k = 0; k < shape.top_k; ++k) {
      std::swap(experts[k], experts[random.from(k, shape.num_experts - 1)]);
      std::int64_t id = one_expert ? 0 : experts[k];
      if (some_missing && random.one_in(4)) id = -1;
      tokens->ids[token * shape.top_k + k] = id;
    }
  }
  tokens->weights.resize(tokens->ids.size());
  for (float& weight : tokens->weights) weight = static_cast<float>(random.from(-1'000, 1'000)) / 256.0F;
}

}  // namespace

RoutedCase make_routed_case(RandomBits& random, const std::vector<Lane>& lanes, const CaseLimits& limits) {
  const int num_ranks = static_cast<int>(random.from(1, limits.max_ranks));
  Shape shape;
  shape.num_experts = static_cast<int>(random.from(limits.min_experts, limits.max_experts));
  shape.top_k = static_cast<int>(random.from(1, std::min(limits.max_top_k, shape.num_experts)));
  shape.max_tokens = random.any_magnitude(1, limits.max_tokens);
  shape.lanes = lanes;
  if (random.one_in(2)) shape.placement = random_table(random, shape.num_experts, num_ranks);
  if (random.one_in(4)) {
    shape.overflow = Overflow::kDrop;
    shape.recv_capacity = random.from(1, num_ranks * shape.max_tokens);
  }
  RoutedCase routed{
      .shape = shape, .num_ranks = num_ranks, .placement = Placement(shape.placement, shape.num_experts, num_ranks)};
  routed.ranks.resize(num_ranks);
  for (RoutedTokens& tokens : routed.ranks) {
    tokens.num_tokens = random.one_in(6) ? 0 : random.from(1, shape.max_tokens);
    draw_ids(random, shape, &tokens);
  }
  route(&routed);
  return routed;
}

std::vector<Lane> long_and_short_lanes(RandomBits& random) {
  return {{.dtype = DataType::kBFloat16, .num_elements = 8 * random.from(65, 1'200)},
          {.dtype = DataType::kFloat32, .num_elements = 4 * random.from(1, 64)}};
}

void route(RoutedCase* routed) {
  const Shape& shape = routed->shape;
  routed->dimensions = plan_dimensions(shape, routed->num_ranks, routed->placement);
  const int max_fan_out = routed->dimensions.max_fan_out;
  const int max_local_experts = routed->dimensions.max_local_experts;
  routed->matrix.clear();
  for (int rank = 0; rank < routed->num_ranks; ++rank) {
    RoutedTokens& tokens = routed->ranks[rank];
    tokens.fan_out.assign(tokens.num_tokens, 0);
    // Entries beyond the fan-out have no meaning; the same values everywhere let whole arrays be compared.
    tokens.destination.assign(tokens.num_tokens * max_fan_out, -1);
    tokens.position.assign(tokens.num_tokens * max_fan_out, -1);
    tokens.ordinal.assign(tokens.num_tokens * shape.top_k, 0);
    tokens.local_idx.assign(tokens.num_tokens * shape.top_k, 0);
    tokens.rank_counts.assign(routed->num_ranks, 0);
    tokens.expert_counts.assign(static_cast<std::size_t>(routed->num_ranks) * max_local_experts, 0);
    host::count({.topk_idx = ConstTensorView(tokens.ids.data(), DataType::kInt64, {tokens.num_tokens, shape.top_k}),
                 .placement = &routed->placement,
                 .rank = rank,
                 .max_fan_out = max_fan_out,
                 .max_local_experts = max_local_experts,
                 .fan_out = tokens.fan_out.data(),
                 .destination = tokens.destination.data(),
                 .row = tokens.position.data(),
                 .ordinal = tokens.ordinal.data(),
                 .local_idx = tokens.local_idx.data(),
                 .rank_counts = tokens.rank_counts.data(),
                 .expert_counts = tokens.expert_counts.data()});
    routed->matrix.insert(routed->matrix.end(), tokens.rank_counts.begin(), tokens.rank_counts.end());
  }
  routed->capacity = shape.overflow == Overflow::kDrop ? routed->dimensions.first_recv_capacity
                                                       : host::max_recv_rows(routed->matrix.data(), routed->num_ranks);
  for (int rank = 0; rank < routed->num_ranks; ++rank) {
    RoutedTokens& tokens = routed->ranks[rank];
    tokens.row = tokens.position;
    tokens.source_offsets.assign(routed->num_ranks + 1, 0);
    host::place({.rank_counts = routed->matrix.data(),
                 .rank = rank,
                 .num_ranks = routed->num_ranks,
                 .capacity = routed->capacity,
                 .num_tokens = tokens.num_tokens,
                 .max_fan_out = max_fan_out,
                 .fan_out = tokens.fan_out.data(),
                 .destination = tokens.destination.data(),
                 .row = tokens.row.data(),
                 .source_offsets = tokens.source_offsets.data()});
  }
}

ReceivedTokens received_by(const RoutedCase& routed, int rank) {
  const int top_k = routed.shape.top_k;
  const int max_fan_out = routed.dimensions.max_fan_out;
  ReceivedTokens received;
  received.num_rows = routed.ranks[rank].source_offsets.back();
  received.topk_idx.assign(received.num_rows * top_k, -1);
  received.source_token.assign(received.num_rows, -1);
  received.ordinal.assign(received.num_rows, -1);
  for (const RoutedTokens& tokens : routed.ranks) {
    for (std::int64_t token = 0; token < tokens.num_tokens; ++token) {
      for (int o = 0; o < tokens.fan_out[token]; ++o) {
        const std::int64_t row = tokens.row[token * max_fan_out + o];
        if (tokens.destination[token * max_fan_out + o] != rank || row < 0) continue;
        received.source_token[row] = static_cast<std::int32_t>(token);
        received.ordinal[row] = o;
        for (int k = 0; k < top_k; ++k) {
          if (tokens.ordinal[token * top_k + k] == o) received.topk_idx[row * top_k + k] = tokens.local_idx[token * top_k + k];
        }
      }
    }
  }
  return received;
}

}  // namespace tokenyard::test
