// Two ranks, threads here, share four experts: expert e multiplies a token's values by e + 1.
#include <cstdio>
#include <thread>
#include <tokenyard/tokenyard.hpp>
#include <vector>

namespace ty = tokenyard;
constexpr int kHidden = 8;

void run_rank(std::shared_ptr<ty::Exchange> exchange) {
  const ty::Group group = ty::Group::create(std::move(exchange));
  const ty::Plan plan = group.plan({.num_experts = 4,
                                    .top_k = 2,
                                    .max_tokens = 16,
                                    .lanes = {{ty::DataType::kFloat32, kHidden}},
                                    .layout = ty::Layout::kExpertContiguous});

  const std::vector<float> tokens(3 * kHidden, 1.0F);         // three tokens of ones
  const std::vector<std::int64_t> experts{0, 3, 1, 2, 2, 0};  // two experts for each of them
  const ty::ConstTensorView lane = ty::tensor(tokens.data(), {3, kHidden});
  const ty::Received received = plan.dispatch({.lanes = {&lane, 1}, .topk_idx = ty::tensor(experts.data(), {3, 2})});

  const ty::TensorView rows = received.lane(0);  // grouped by this rank's experts, which write over their inputs
  const auto* offsets = static_cast<const std::int64_t*>(received.routing().expert_offsets().data);
  for (int local = 0; local < plan.num_local_experts(); ++local) {
    const auto factor = static_cast<float>(group.rank() * plan.num_local_experts() + local + 1);
    for (auto i = offsets[local] * kHidden; i < offsets[local + 1] * kHidden; ++i) static_cast<float*>(rows.data)[i] *= factor;
  }

  std::vector<float> sums(tokens.size());
  plan.combine({.routing = &received.routing(), .rows = rows, .output = ty::tensor(sums.data(), {3, kHidden})});
  const bool right = sums[0] == 1 + 4 && sums[kHidden] == 2 + 3 && sums[2 * kHidden] == 3 + 1;
  std::printf("rank %d: the sums are %s\n", group.rank(), right ? "right" : "wrong");
}

int main() {
  std::vector<std::jthread> ranks;
  for (const auto& exchange : ty::make_thread_exchange(2)) ranks.emplace_back(run_rank, exchange);
}
