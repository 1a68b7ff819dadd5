#include "tests/property/expectations.hpp"

namespace tokenyard::test {
namespace {

reference::Arrangement arrangement_of(Layout layout) {
  switch (layout) {
    case Layout::kCompact: return reference::Arrangement::kCompact;
    case Layout::kExpertContiguous: return reference::Arrangement::kContiguous;
    case Layout::kExpertPadded: return reference::Arrangement::kPadded;
  }
  return {};
}

reference::World make_world(const Case& random_case, const PlacementTable& placement) {
  const Shape& shape = random_case.shapes[0];
  reference::World world;
  world.num_ranks = random_case.num_ranks;
  world.num_experts = shape.num_experts;
  world.top_k = shape.top_k;
  for (const auto& experts : placement.experts_of) world.experts_of.emplace_back(experts.begin(), experts.end());
  world.arrangement = arrangement_of(shape.layout);
  world.alignment = shape.expert_alignment;
  world.expert_capacity = shape.expert_capacity;
  if (shape.overflow == Overflow::kDrop && shape.recv_capacity > 0) world.recv_capacity = shape.recv_capacity;
  return world;
}

std::vector<reference::Sent> make_sent(const TokenSet& tokens) {
  std::vector<reference::Sent> sent(tokens.num_tokens.size());
  for (std::size_t rank = 0; rank < sent.size(); ++rank) {
    sent[rank].num_tokens = tokens.num_tokens[rank];
    sent[rank].ids = tokens.ids[rank];
    if (!tokens.weights.empty()) sent[rank].weights = tokens.weights[rank];
  }
  return sent;
}

}  // namespace

Expectations::Expectations(const Case& random_case) {
  for (const Step& step : random_case.steps) {
    if (step.call != Call::kDispatch || routed_.contains({step.token_set, step.placement})) continue;
    if (!worlds_.contains(step.placement))
      worlds_[step.placement] = make_world(random_case, random_case.placements[step.placement]);
    routed_[{step.token_set, step.placement}] =
        reference::route(worlds_[step.placement], make_sent(random_case.token_sets[step.token_set]));
  }
}

}  // namespace tokenyard::test
