#include "tests/engine/graph_layer.hpp"

#include <algorithm>

namespace tokenyard::test::graphs {
namespace {

reference::Sent make_sent(int rank, RandomBits* random) {
  enum class Pattern { kAny, kSome, kOneExpert, kNone };
  const auto pattern = random->pick({Pattern::kAny, Pattern::kAny, Pattern::kSome, Pattern::kOneExpert, Pattern::kNone});
  reference::Sent sent;
  sent.num_tokens = num_tokens_of(rank);
  const std::int64_t favourite = random->from(0, kNumExperts - 1);
  for (std::int64_t pair = 0; pair < sent.num_tokens * kTopK; ++pair) {
    std::int64_t id = random->from(0, kNumExperts - 1);
    if (pattern == Pattern::kOneExpert) id = favourite;
    if (pattern == Pattern::kNone || (pattern == Pattern::kSome && random->one_in(2))) id = -1;
    sent.ids.push_back(id);
  }
  return sent;
}

}  // namespace

Inputs::Inputs(const Layer& layer, int num_ranks) : layer_(layer) {
  reference::World world;
  world.num_ranks = num_ranks;
  world.num_experts = kNumExperts;
  world.top_k = kTopK;
  world.arrangement = is_compact() ? reference::Arrangement::kCompact : reference::Arrangement::kContiguous;
  world.alignment = layer.shape().expert_alignment;
  if (layer.recv_capacity > 0) world.recv_capacity = layer.recv_capacity;
  for (int input = 0; input < kNumInputs; ++input) {
    RandomBits random(seed_of(5, input));
    sent_.emplace_back();
    for (int rank = 0; rank < num_ranks; ++rank) sent_.back().push_back(make_sent(rank, &random));
    routed_.push_back(reference::route(world, sent_.back()));
  }
}

int Inputs::num_terms(int input, int rank, std::int64_t token) const {
  int num_terms = 0;
  for (const reference::Visit& visit : routed_[input].visits[rank][token]) {
    if (visit.row < 0) continue;
    num_terms += is_compact() ? 1 : static_cast<int>(std::ranges::count(visit.serves_k, true));
  }
  return num_terms;
}

int input_of(int replay) { return static_cast<int>(seed_of(17, replay) % kNumInputs); }

}  // namespace tokenyard::test::graphs
