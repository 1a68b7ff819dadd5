#include "cli/demo_rank.hpp"

#include <algorithm>
#include <array>
#include <future>

#include "cli/stored_rows.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {
namespace {

const std::int64_t* integers(const ConstTensorView& view) { return static_cast<const std::int64_t*>(view.data); }

}  // namespace

// The tokens of one call. Buffers hold max_tokens rows, so that they have an address for 0 tokens too.
struct DemoRank::Batch {
  std::int64_t first_token = 0;
  std::int64_t num_tokens = 0;
  std::vector<float> hidden_states;
  std::vector<std::int64_t> topk_idx;
  std::vector<float> topk_weights;
  std::vector<std::byte> payload;  // lane 0
  std::vector<float> scales;       // lane 1 of FP8
  std::vector<ConstTensorView> lanes;
};

DemoRank::DemoRank(const DemoSetup& setup, const Plan& plan, int rank)
    : setup_(setup),
      plan_(plan),
      router_(RouterOptions{.num_experts = setup.shape.num_experts,
                            .top_k = setup.shape.top_k,
                            .correction_bias = {},
                            .domain_of_expert = {},
                            .normalize = true}),
      gate_(setup.model),
      next_token_(setup.shard_begin(rank)),
      end_token_(setup.shard_begin(rank + 1)),
      rows_from_(static_cast<std::size_t>(setup.num_ranks)) {
  const int experts_per_rank = (setup.shape.num_experts + setup.num_ranks - 1) / setup.num_ranks;
  for (int local = 0; local < plan_.num_local_experts(); ++local)
    experts_.emplace_back(setup.model, rank * experts_per_rank + local);
  if (setup.shared_expert) shared_expert_.emplace_back(setup.model, setup.model.num_experts);
}

void DemoRank::run_batch() {
  const std::int64_t hidden = setup_.model.hidden;
  const DataType row_type = setup_.shape.combine->dtype;
  Batch batch;
  batch.first_token = next_token_;
  batch.num_tokens = std::min(setup_.shape.max_tokens, end_token_ - next_token_);
  next_token_ += batch.num_tokens;
  choose_experts(batch);
  make_payload(batch);

  // The shared expert needs no other rank: it runs while the tokens are on their way. Between the halves of a split call this
  // thread is free to do that; a whole call needs another one beside it.
  const bool split = setup_.shape.mode == Mode::kLatency;
  auto shared_rows =
      std::async(split ? std::launch::deferred : std::launch::async, [this, &batch] { return apply_shared_expert(batch); });

  const auto topk_idx = tensor(batch.topk_idx.data(), {batch.num_tokens, setup_.shape.top_k});
  const auto topk_weights = tensor(batch.topk_weights.data(), {batch.num_tokens, setup_.shape.top_k});
  DispatchArgs dispatch;
  dispatch.lanes = batch.lanes;
  dispatch.topk_idx = topk_idx;
  dispatch.topk_weights = topk_weights;
  Received received;
  if (split) {
    PendingDispatch pending = plan_.begin_dispatch(dispatch);
    shared_rows.wait();
    received = pending.complete();
  } else {
    received = plan_.dispatch(dispatch);
  }
  const Routing& routing = received.routing();
  for (std::size_t source = 0; source < rows_from_.size(); ++source) {
    rows_from_[source] += integers(routing.source_offsets())[source + 1] - integers(routing.source_offsets())[source];
  }

  std::vector<std::byte> output(static_cast<std::size_t>(setup_.shape.max_tokens * hidden) * size_of(row_type));
  CombineArgs combine;
  combine.routing = &routing;
  combine.rows = apply_experts(received);
  combine.use_routing_weights = setup_.shape.layout != Layout::kCompact;  // compact rows are summed here already
  combine.output = TensorView(output.data(), row_type, {batch.num_tokens, hidden});
  const std::vector<std::byte> bias = shared_rows.get();
  if (setup_.shared_expert) combine.biases[0] = ConstTensorView(bias.data(), row_type, {batch.num_tokens, hidden});
  if (split) {
    plan_.begin_combine(combine).complete();
  } else {
    plan_.combine(combine);
  }

  const std::size_t num_earlier = results_.size();
  results_.resize(num_earlier + static_cast<std::size_t>(batch.num_tokens * hidden));
  load_values(output.data(), row_type, batch.num_tokens * hidden, results_.data() + num_earlier);
  const auto num_ids = static_cast<std::ptrdiff_t>(batch.num_tokens * setup_.shape.top_k);
  topk_idx_.insert(topk_idx_.end(), batch.topk_idx.begin(), batch.topk_idx.begin() + num_ids);
  topk_weights_.insert(topk_weights_.end(), batch.topk_weights.begin(), batch.topk_weights.begin() + num_ids);
}

void DemoRank::choose_experts(Batch& batch) {
  const auto max_tokens = static_cast<std::size_t>(setup_.shape.max_tokens);
  batch.hidden_states.resize(max_tokens * static_cast<std::size_t>(setup_.model.hidden));
  batch.topk_idx.resize(max_tokens * static_cast<std::size_t>(setup_.shape.top_k));
  batch.topk_weights.resize(batch.topk_idx.size());
  std::vector<float> logits(max_tokens * static_cast<std::size_t>(setup_.shape.num_experts));
  for (std::int64_t i = 0; i < batch.num_tokens; ++i) {
    const std::int64_t position = batch.first_token + i;
    float* row = batch.hidden_states.data() + i * setup_.model.hidden;
    write_hidden_state(setup_.model, setup_.token(position), setup_.token(position - 1), row);
    gate_.write_logits(row, logits.data() + i * setup_.shape.num_experts);
  }
  router_.route(tensor(logits.data(), {batch.num_tokens, setup_.shape.num_experts}),
                tensor(batch.topk_idx.data(), {batch.num_tokens, setup_.shape.top_k}),
                tensor(batch.topk_weights.data(), {batch.num_tokens, setup_.shape.top_k}));
}

void DemoRank::make_payload(Batch& batch) const {
  const std::int64_t hidden = setup_.model.hidden;
  const Lane& lane = setup_.shape.lanes[0];
  const ConstTensorView hidden_states = tensor(batch.hidden_states.data(), {batch.num_tokens, hidden});
  if (setup_.shape.quantization.has_value()) {
    batch.lanes.push_back(hidden_states);
    return;
  }
  batch.payload.resize(static_cast<std::size_t>(setup_.shape.max_tokens) * lane.row_bytes());
  const TensorView payload(batch.payload.data(), lane.dtype, {batch.num_tokens, hidden});
  batch.lanes.push_back(payload);
  if (setup_.payload == Payload::kFloat8) {
    const std::int64_t num_scales = setup_.shape.lanes[1].num_elements;
    batch.scales.resize(static_cast<std::size_t>(setup_.shape.max_tokens * num_scales));
    const TensorView scales = tensor(batch.scales.data(), {batch.num_tokens, num_scales});
    batch.lanes.push_back(scales);
    quantize(hidden_states, ScaleFormat::kFloat32, payload, scales);
  } else {
    store_values(batch.hidden_states.data(), batch.num_tokens * hidden, lane.dtype, batch.payload.data());
  }
}

std::vector<std::byte> DemoRank::apply_shared_expert(const Batch& batch) const {
  if (!setup_.shared_expert) return {};
  std::vector<float> values(batch.hidden_states.size());
  shared_expert_[0].apply(batch.hidden_states.data(), batch.num_tokens, values.data());
  const DataType row_type = setup_.shape.combine->dtype;
  std::vector<std::byte> rows(values.size() * size_of(row_type));
  store_values(values.data(), batch.num_tokens * setup_.model.hidden, row_type, rows.data());
  return rows;
}

TensorView DemoRank::apply_experts(const Received& received) {
  const RecvSizes& sizes = received.sizes();
  const std::int64_t hidden = setup_.model.hidden;
  const DataType row_type = setup_.shape.combine->dtype;
  expert_rows_.assign(static_cast<std::size_t>(std::max<std::int64_t>(sizes.num_tensor_rows, 1) * hidden) * size_of(row_type),
                      std::byte{0});
  if (setup_.shape.layout == Layout::kCompact) {
    apply_per_row(received);
  } else {
    apply_per_expert(received);
  }
  if (setup_.shape.layout == Layout::kExpertPadded) {
    return {expert_rows_.data(), row_type, {sizes.num_local_experts, setup_.shape.expert_capacity, hidden}};
  }
  return {expert_rows_.data(), row_type, {sizes.num_tensor_rows, hidden}};
}

// Expert layouts: an expert's rows stand together. Combine weights and sums them.
void DemoRank::apply_per_expert(const Received& received) {
  const std::int64_t hidden = setup_.model.hidden;
  const DataType row_type = setup_.shape.combine->dtype;
  const Routing& routing = received.routing();
  std::vector<float> values;
  for (std::size_t local = 0; local < experts_.size(); ++local) {
    const std::int64_t num_rows = integers(routing.expert_counts())[local];
    const std::int64_t first_row = setup_.shape.layout == Layout::kExpertPadded
                                       ? static_cast<std::int64_t>(local) * setup_.shape.expert_capacity
                                       : integers(routing.expert_offsets())[local];
    values.resize(static_cast<std::size_t>(num_rows * hidden));
    load_rows(received, first_row, num_rows, values.data());
    experts_[local].apply(values.data(), num_rows, values.data());
    store_values(values.data(), num_rows * hidden, row_type,
                 expert_rows_.data() + static_cast<std::size_t>(first_row * hidden) * size_of(row_type));
  }
}

// The compact layout: one row per token, whichever of this rank's experts it is for. Their outputs are weighted and summed
// here, in top-k order.
void DemoRank::apply_per_row(const Received& received) {
  const std::int64_t hidden = setup_.model.hidden;
  const int top_k = setup_.shape.top_k;
  const Routing& routing = received.routing();
  const std::int64_t num_rows = routing.num_recv_rows();
  const auto* local_experts = static_cast<const std::int32_t*>(routing.topk_idx().data);
  const auto* weights = static_cast<const float*>(routing.topk_weights().data);

  std::vector<float> inputs(static_cast<std::size_t>(num_rows * hidden));
  load_rows(received, 0, num_rows, inputs.data());
  std::vector<float> pair_rows(static_cast<std::size_t>(num_rows * top_k * hidden));
  std::vector<std::int64_t> pairs;
  std::vector<float> gathered;
  for (std::size_t local = 0; local < experts_.size(); ++local) {
    pairs.clear();
    gathered.clear();
    for (std::int64_t pair = 0; pair < num_rows * top_k; ++pair) {
      if (local_experts[pair] != static_cast<std::int32_t>(local)) continue;
      pairs.push_back(pair);
      const float* row = inputs.data() + pair / top_k * hidden;
      gathered.insert(gathered.end(), row, row + hidden);
    }
    experts_[local].apply(gathered.data(), static_cast<std::int64_t>(pairs.size()), gathered.data());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      std::copy_n(gathered.data() + static_cast<std::int64_t>(i) * hidden, hidden, pair_rows.data() + pairs[i] * hidden);
    }
  }

  std::vector<float> sums(inputs.size());
  for (std::int64_t pair = 0; pair < num_rows * top_k; ++pair) {
    if (local_experts[pair] < 0) continue;
    float* sum = sums.data() + pair / top_k * hidden;
    const float* row = pair_rows.data() + pair * hidden;
    for (std::int64_t i = 0; i < hidden; ++i) sum[i] += weights[pair] * row[i];
  }
  store_values(sums.data(), num_rows * hidden, setup_.shape.combine->dtype, expert_rows_.data());
}

void DemoRank::load_rows(const Received& received, std::int64_t first_row, std::int64_t num_rows, float* values) const {
  if (num_rows == 0) return;
  const std::int64_t hidden = setup_.model.hidden;
  const Lane& lane = setup_.shape.lanes[0];
  const std::byte* stored =
      static_cast<const std::byte*>(received.lane(0).data) + first_row * static_cast<std::int64_t>(lane.row_bytes());
  if (setup_.payload != Payload::kFloat8) {
    load_values(stored, lane.dtype, num_rows * hidden, values);
    return;
  }
  const std::int64_t num_scales = setup_.shape.lanes[1].num_elements;
  const auto* scales = static_cast<const float*>(received.lane(1).data) + first_row * num_scales;
  dequantize(ConstTensorView(stored, lane.dtype, {num_rows, hidden}), tensor(scales, {num_rows, num_scales}),
             tensor(values, {num_rows, hidden}));
}

}  // namespace tokenyard::cli
