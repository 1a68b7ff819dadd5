#include "tests/engine/graph_rank.hpp"

#include <gtest/gtest.h>

#include "base/cuda_error.hpp"

namespace tokenyard::test::graphs {
namespace {

template <class T>
ConstTensorView tensor(const T& first, std::int64_t num_rows, std::int64_t num_columns) {
  return {&first, data_type_of<T>(), {num_rows, num_columns}};
}

}  // namespace

GraphRank::GraphRank(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu, cudaStream_t stream)
    : layer_(layer),
      inputs_(inputs),
      rank_(group.rank()),
      num_ranks_(group.num_ranks()),
      num_tokens_(num_tokens_of(rank_)),
      gpu_(gpu),
      stream_(stream),
      plan_(group.plan(layer.shape())),
      num_rows_(tensor_rows(layer, plan_)),
      prepared_rows_(&gpu->on_device(), kNumInputs * num_tokens_ * kHidden),
      prepared_ids_(&gpu->on_device(), kNumInputs * num_tokens_ * kTopK),
      rows_(&gpu->on_device(), num_tokens_ * kHidden),
      ids_(&gpu->on_device(), num_tokens_ * kTopK),
      delivered_(&gpu->on_device(), num_rows_ * kHidden),
      arrived_(&gpu->on_device(), num_rows_ * kHidden),
      output_(&gpu->on_device(), num_tokens_ * kHidden),
      seen_arrived_(&gpu->pinned(), kNumUnderWay * num_rows_ * kHidden),
      seen_output_(&gpu->pinned(), kNumUnderWay * num_tokens_ * kHidden),
      seen_source_token_(&gpu->pinned(), kNumUnderWay * plan_.sizes().recv_capacity),
      seen_source_offsets_(&gpu->pinned(), kNumUnderWay * (num_ranks_ + 1)) {
  std::vector<float> rows;
  std::vector<std::int32_t> ids;
  for (int input = 0; input < kNumInputs; ++input) {
    for (std::int64_t token = 0; token < num_tokens_; ++token) {
      for (std::int64_t column = 0; column < kHidden; ++column) rows.push_back(input_value(rank_, input, token, column));
    }
    for (const std::int64_t id : inputs.ids(input, rank_)) ids.push_back(static_cast<std::int32_t>(id));
  }
  const auto copy = [&](void* to, const auto& from, std::size_t num_bytes) {
    gpu->copy_to_device(static_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from.data()), num_bytes);
  };
  copy(prepared_rows_.data(), rows, prepared_rows_.num_bytes());
  copy(prepared_ids_.data(), ids, prepared_ids_.num_bytes());
}

GraphRank::~GraphRank() {
  cudaStreamSynchronize(stream_);
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

void GraphRank::capture(int slot) {
  call(0, slot);
  check("before the capture");
  cudaGraph_t captured = nullptr;
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  routing_of_graph_ = enqueue_layer(slot);
  check_cuda(cudaStreamEndCapture(stream_, &captured), "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&graph_, captured, 0), "cudaGraphInstantiate");
  check_cuda(cudaGraphDestroy(captured), "cudaGraphDestroy");
  check_cuda(cudaGraphUpload(graph_, stream_), "cudaGraphUpload");
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
}

void GraphRank::replay(int input) {
  set_input(input);
  check_cuda(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
  keep_results(input, routing_of_graph_);
}

void GraphRank::call(int input, int slot) {
  set_input(input);
  routings_.push_back(enqueue_layer(slot));
  keep_results(input, routings_.back());
}

void GraphRank::check(const std::string& when) {
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  routings_.clear();
  for (std::size_t place = 0; place < kept_inputs_.size() && !testing::Test::HasFailure(); ++place) {
    SCOPED_TRACE(std::string(layer_.name) + ", rank " + std::to_string(rank_) + ", " + when + ", result " +
                 std::to_string(place) + ", input " + std::to_string(kept_inputs_[place]));
    check_arrived(kept_inputs_[place], static_cast<std::int64_t>(place));
    check_output(kept_inputs_[place], static_cast<std::int64_t>(place));
  }
  kept_inputs_.clear();
}

std::int64_t GraphRank::tensor_rows(const Layer& layer, const Plan& plan) {
  const std::int64_t num_rows = plan.sizes().recv_capacity;
  if (layer.layout == Layout::kCompact) return num_rows;
  return num_rows * kTopK + plan.num_local_experts() * (layer.shape().expert_alignment - 1);
}

void GraphRank::copy(void* to, const void* from, std::size_t num_bytes) const {
  check_cuda(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
}

void GraphRank::set_input(int input) {
  copy(rows_.data(), prepared_rows_.data() + input * num_tokens_ * kHidden, rows_.num_bytes());
  copy(ids_.data(), prepared_ids_.data() + input * num_tokens_ * kTopK, ids_.num_bytes());
  for (const auto* poisoned : {&delivered_, &arrived_, &output_}) {
    check_cuda(cudaMemsetAsync(poisoned->data(), 0xff, poisoned->num_bytes(), stream_), "cudaMemsetAsync");
  }
}

Routing GraphRank::enqueue_layer(int slot) {
  const ConstTensorView lane = tensor(std::as_const(*rows_.data()), num_tokens_, kHidden);
  DispatchArgs dispatch;
  dispatch.lanes = {&lane, 1};
  dispatch.topk_idx = tensor(std::as_const(*ids_.data()), num_tokens_, kTopK);
  dispatch.slot = slot;
  dispatch.execution.stream = stream_;
  const TensorView delivered = mutable_tensor(delivered_.data());
  if (layer_.into_given_tensors) dispatch.outputs = {&delivered, 1};
  Received received = plan_.dispatch(dispatch);

  const TensorView arrived = received.lane(0);
  copy(arrived_.data(), arrived.data, arrived_.num_bytes());
  CombineArgs combine;
  const Routing routing = received.routing();
  combine.routing = &routing;
  combine.rows = outputs_of_experts(received);
  combine.output = {output_.data(), DataType::kFloat32, {num_tokens_, kHidden}};
  combine.slot = slot;
  combine.execution.stream = stream_;
  plan_.combine(combine);
  return routing;
}

ConstTensorView GraphRank::outputs_of_experts(const Received& received) {
  switch (layer_.outputs) {
    case Outputs::kElsewhere: return mutable_tensor(arrived_.data());
    case Outputs::kOverRows: return received.lane(0);
    case Outputs::kBorrowed: break;
  }
  const TensorView buffer = received.combine_buffer();
  copy(buffer.data, arrived_.data(), arrived_.num_bytes());
  return buffer;
}

void GraphRank::keep_results(int input, const Routing& routing) {
  const auto place = static_cast<std::int64_t>(kept_inputs_.size());
  const std::int64_t num_source_rows = plan_.sizes().recv_capacity;
  copy(seen_arrived_.data() + place * num_rows_ * kHidden, arrived_.data(), arrived_.num_bytes());
  copy(seen_output_.data() + place * num_tokens_ * kHidden, output_.data(), output_.num_bytes());
  copy(seen_source_token_.data() + place * num_source_rows, routing.source_token().data,
       num_source_rows * sizeof(std::int32_t));
  copy(seen_source_offsets_.data() + place * (num_ranks_ + 1), routing.source_offsets().data,
       (num_ranks_ + 1) * sizeof(std::int64_t));
  kept_inputs_.push_back(input);
}

void GraphRank::check_arrived(int input, std::int64_t place) const {
  const reference::Arrived& expected = inputs_.arrived(input, rank_);
  const std::int64_t* offsets = seen_source_offsets_.data() + place * (num_ranks_ + 1);
  ASSERT_EQ(std::vector<std::int64_t>(offsets, offsets + num_ranks_ + 1), expected.source_offsets);
  const std::int64_t num_source_rows = plan_.sizes().recv_capacity;
  const std::int32_t* tokens = seen_source_token_.data() + place * num_source_rows;
  for (std::int64_t row = 0; row < num_source_rows; ++row) {
    const bool is_real = row < std::ssize(expected.rows);
    ASSERT_EQ(tokens[row], is_real ? expected.rows[row].token : -1) << "row " << row;
  }
  const auto num_places = static_cast<std::int64_t>(inputs_.is_compact() ? expected.rows.size() : expected.copied_row.size());
  const float* values = seen_arrived_.data() + place * num_rows_ * kHidden;
  for (std::int64_t row = 0; row < num_places; ++row) {
    const std::int64_t origin = inputs_.is_compact() ? row : expected.copied_row[row];
    for (std::int64_t column = 0; column < kHidden; ++column) {
      const float wanted =
          origin < 0 ? 0.0F : input_value(expected.rows[origin].source, input, expected.rows[origin].token, column);
      ASSERT_EQ(values[row * kHidden + column], wanted) << "row " << row << ", column " << column;
    }
  }
}

void GraphRank::check_output(int input, std::int64_t place) const {
  const float* values = seen_output_.data() + place * num_tokens_ * kHidden;
  for (std::int64_t token = 0; token < num_tokens_; ++token) {
    const auto num_terms = static_cast<float>(inputs_.num_terms(input, rank_, token));
    for (std::int64_t column = 0; column < kHidden; ++column) {
      ASSERT_EQ(values[token * kHidden + column], num_terms * input_value(rank_, input, token, column))
          << "token " << token << ", column " << column;
    }
  }
}

}  // namespace tokenyard::test::graphs
