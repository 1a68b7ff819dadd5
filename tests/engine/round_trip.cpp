#include "tests/engine/round_trip.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace tokenyard::test {
namespace {

// A dense tensor of a test's own memory, where the calls of a residence can reach it.
template <class Void>
class MovedTensor {
 public:
  MovedTensor(Residence* residence, const BasicTensorView<Void>& tensor)
      : original_(tensor), num_bytes_(tensor.num_elements() * size_of(tensor.dtype)), memory_(residence->allocate(num_bytes_)) {
    std::memcpy(memory_->bytes(), tensor.data, num_bytes_);
  }

  BasicTensorView<Void> for_call() {
    BasicTensorView<Void> view = original_;
    view.data = memory_->bytes();
    return memory_->for_call(view);
  }

  void move_back() {
    memory_->take_back();
    std::memcpy(original_.data, memory_->bytes(), num_bytes_);
  }

 private:
  BasicTensorView<Void> original_;
  std::size_t num_bytes_;
  std::unique_ptr<TensorMemory> memory_;
};

}  // namespace

Shape small_shape(int num_ranks, Layout layout) {
  Shape shape;
  shape.num_experts = 2 * num_ranks;
  shape.top_k = kTopK;
  shape.max_tokens = kMaxTokens;
  shape.lanes = {{DataType::kFloat32, kHidden}};
  shape.layout = layout;
  if (layout == Layout::kExpertPadded) shape.expert_capacity = num_ranks * kMaxTokens * kTopK;
  return shape;
}

Shape latency_shape(int num_ranks, Layout layout) {
  Shape shape = small_shape(num_ranks, layout);
  shape.mode = Mode::kLatency;
  return shape;
}

float value_of(int rank, int round, std::int64_t token, std::int64_t column) {
  return static_cast<float>(((rank * 64 + round % 64) * 64 + token) * 8 + column);
}

SmallInput::SmallInput(int rank, int num_ranks, int round, std::int64_t num_tokens_in) : num_tokens(num_tokens_in) {
  const int num_experts = 2 * num_ranks;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t column = 0; column < kHidden; ++column) rows.push_back(value_of(rank, round, token, column));
    const auto first = static_cast<int>((rank + round + token) % num_experts);
    ids.push_back(first);
    ids.push_back(static_cast<int>((first + 1 + token) % num_experts));
    for (int k = 0; k < kTopK; ++k) weights.push_back(static_cast<float>(token + k + 1));
  }
  lanes = {tensor(std::as_const(rows).data(), {num_tokens, kHidden})};
}

DispatchArgs SmallInput::dispatch() const {
  DispatchArgs args;
  args.lanes = lanes;
  args.topk_idx = tensor(ids.data(), {num_tokens, kTopK});
  return args;
}

DispatchArgs SmallInput::dispatch(const Routing& routing) const {
  DispatchArgs args;
  args.lanes = lanes;
  args.routing = &routing;
  return args;
}

void expect_rows(const Received& received, int num_ranks, int round) {
  HostResidence residence;
  expect_rows(received, num_ranks, round, &residence);
}

void expect_rows(const Received& received, int num_ranks, int round, Residence* residence) {
  const Routing& routing = received.routing();
  const auto source_offsets = residence->fetch(routing.source_offsets());
  const auto source_token = residence->fetch(routing.source_token());
  const auto rows = residence->fetch(received.lane(0));
  const auto* offsets = static_cast<const std::int64_t*>(source_offsets.view.data);
  const auto* tokens = static_cast<const std::int32_t*>(source_token.view.data);
  const TensorView& lane = rows.view;
  ASSERT_EQ(lane.shape[0], routing.num_recv_rows());
  ASSERT_EQ(offsets[num_ranks], routing.num_recv_rows());
  for (int source = 0; source < num_ranks; ++source) {
    for (std::int64_t row = offsets[source]; row < offsets[source + 1]; ++row) {
      const auto* values = reinterpret_cast<const float*>(lane.at(row));
      for (std::int64_t column = 0; column < kHidden; ++column) {
        ASSERT_EQ(values[column], value_of(source, round, tokens[row], column)) << "row " << row << " from rank " << source;
      }
    }
  }
}

SmallOutput::SmallOutput(const SmallInput& input) : values(input.rows.size(), -1.0F), num_tokens(input.num_tokens) {}

CombineArgs SmallOutput::combine(const Routing& routing, const ConstTensorView& rows) {
  CombineArgs args;
  args.routing = &routing;
  args.rows = rows;
  args.output = tensor(values.data(), {num_tokens, kHidden});
  return args;
}

void SmallOutput::expect_sum_without(const SmallInput& input, int num_ranks, const std::set<int>& absent) const {
  const int experts_per_rank = 2;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    std::set<int> ranks;
    for (int k = 0; k < kTopK; ++k) ranks.insert(input.ids[token * kTopK + k] / experts_per_rank);
    ASSERT_LT(*ranks.rbegin(), num_ranks);
    for (const int rank : absent) ranks.erase(rank);
    for (std::int64_t column = 0; column < kHidden; ++column) {
      const std::int64_t element = token * kHidden + column;
      ASSERT_EQ(values[element], static_cast<float>(ranks.size()) * input.rows[element]) << "token " << token;
    }
  }
}

void expect_round_trip(const Plan& plan, int rank, int num_ranks, int round) {
  HostResidence residence;
  expect_round_trip(plan, rank, num_ranks, round, &residence);
}

void expect_round_trip(const Plan& plan, int rank, int num_ranks, int round, Residence* residence) {
  const SmallInput input(rank, num_ranks, round);
  DispatchArgs dispatch = input.dispatch();
  MovedTensor rows(residence, dispatch.lanes[0]);
  MovedTensor ids(residence, dispatch.topk_idx);
  const ConstTensorView lane = rows.for_call();
  dispatch.lanes = {&lane, 1};
  dispatch.topk_idx = ids.for_call();
  dispatch.execution = residence->next_execution(false);
  const Received received = plan.dispatch(dispatch);
  residence->call_is_made();
  residence->finish();
  expect_rows(received, num_ranks, round, residence);

  SmallOutput output(input);
  CombineArgs combine = output.combine(received.routing(), received.lane(0));
  MovedTensor sums(residence, combine.output);
  combine.output = sums.for_call();
  combine.execution = residence->next_execution(false);
  plan.combine(combine);
  residence->call_is_made();
  residence->finish();
  sums.move_back();
  output.expect_sum(input, num_ranks);
}

}  // namespace tokenyard::test
