// Decode steps in latency mode, with calls in halves: two ranks, threads here, share four experts. Expert e multiplies a
// token's values by e + 1, and a shared expert adds each token to its own sum.
#include <cstdio>
#include <thread>
#include <tokenyard/tokenyard.hpp>
#include <vector>

namespace ty = tokenyard;
constexpr int kHidden = 128;
constexpr int kNumTokens = 3;

// Writes over the rows of this rank's experts.
void apply_experts(const ty::Received& received, int first_expert) {
  const auto* offsets = static_cast<const std::int64_t*>(received.routing().expert_offsets().data);
  auto* rows = static_cast<float*>(received.lane(0).data);
  for (int local = 0; local < received.sizes().num_local_experts; ++local) {
    const auto factor = static_cast<float>(first_expert + local + 1);
    for (auto i = offsets[local] * kHidden; i < offsets[local + 1] * kHidden; ++i) rows[i] *= factor;
  }
}

void run_rank(std::shared_ptr<ty::Exchange> exchange) {
  const ty::Group group = ty::Group::create(std::move(exchange));
  const ty::Plan plan = group.plan({.num_experts = 4,
                                    .top_k = 2,
                                    .max_tokens = 16,
                                    .lanes = {{ty::DataType::kFloat32, kHidden}},
                                    .mode = ty::Mode::kLatency,
                                    .layout = ty::Layout::kExpertContiguous});

  const std::vector<std::int64_t> experts{0, 3, 1, 2, 2, 0};  // two for each of three tokens
  const std::vector<float> weights(experts.size(), 0.5F);
  bool right = true;
  for (int step = 1; step <= 3; ++step) {
    const std::vector<float> tokens(kNumTokens * kHidden, static_cast<float>(step));
    const ty::ConstTensorView lane = ty::tensor(tokens.data(), {kNumTokens, kHidden});

    ty::PendingDispatch dispatch = plan.begin_dispatch({.lanes = {&lane, 1},
                                                        .topk_idx = ty::tensor(experts.data(), {kNumTokens, 2}),
                                                        .topk_weights = ty::tensor(weights.data(), {kNumTokens, 2})});
    const std::vector<float> shared = tokens;  // the shared expert runs while tokens are on their way
    const ty::Received received = dispatch.complete();
    apply_experts(received, 2 * group.rank());

    std::vector<float> sums(tokens.size());
    ty::PendingCombine combine = plan.begin_combine({.routing = &received.routing(),
                                                     .rows = received.lane(0),
                                                     .use_routing_weights = true,
                                                     .biases = {ty::tensor(shared.data(), {kNumTokens, kHidden})},
                                                     .output = ty::tensor(sums.data(), {kNumTokens, kHidden})});
    while (!combine.done()) std::this_thread::yield();  // or other work; complete() waits too, and has a deadline
    combine.complete();

    const float wanted[] = {0.5F * (1 + 4) + 1, 0.5F * (2 + 3) + 1, 0.5F * (3 + 1) + 1};
    for (int i = 0; i < kNumTokens * kHidden; ++i) {
      right = right && sums[static_cast<std::size_t>(i)] == wanted[i / kHidden] * static_cast<float>(step);
    }
  }
  std::printf("rank %d: the sums are %s\n", group.rank(), right ? "right" : "wrong");
}

int main() {
  std::vector<std::jthread> ranks;
  for (const auto& exchange : ty::make_thread_exchange(2)) ranks.emplace_back(run_rank, exchange);
}
