// A small layer whose ranks are delayed on purpose.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "tokenyard/tokenyard.hpp"

namespace tokenyard::cli {

constexpr int kNumLayers = 30;

// kNumLayers times dispatch and combine; `late_rank` sleeps before each dispatch.
inline void run_layers(std::shared_ptr<Exchange> exchange, int late_rank) {
  const Group group = Group::create(std::move(exchange));
  const int num_ranks = group.num_ranks();
  Shape shape;
  shape.num_experts = num_ranks;
  shape.top_k = 2;
  shape.max_tokens = 8;
  shape.lanes = {{DataType::kFloat32, 16}};
  const Plan plan = group.plan(shape);
  const std::vector<float> rows(8 * 16, 1.0F);
  std::vector<std::int32_t> ids(8 * 2);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>((i + group.rank()) % num_ranks);
  std::vector<float> outputs(8 * 16);
  for (int layer = 0; layer < kNumLayers; ++layer) {
    if (group.rank() == late_rank) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    DispatchArgs dispatch;
    const std::vector<ConstTensorView> lanes{tensor(rows.data(), {8, 16})};
    dispatch.lanes = lanes;
    dispatch.topk_idx = tensor(std::as_const(ids).data(), {8, 2});
    const Received received = plan.dispatch(dispatch);
    CombineArgs combine;
    combine.routing = &received.routing();
    combine.rows = received.lane(0);
    combine.output = tensor(outputs.data(), {8, 16});
    plan.combine(combine);
  }
}

}  // namespace tokenyard::cli
