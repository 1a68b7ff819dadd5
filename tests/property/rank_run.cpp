#include "tests/property/rank_run.hpp"

#include <cstring>
#include <stdexcept>
#include <utility>

#include "tests/property/contents.hpp"
#include "tests/property/strided_matrix.hpp"

namespace tokenyard::test {
namespace {

std::string when(int rank, const Step& step) { return fmt::format("rank {}, {}", rank, describe(step)); }

// What a dispatch reads, kept together until it has returned.
struct DispatchInputs {
  std::vector<StridedMatrix> lanes;
  std::vector<ConstTensorView> lane_views;
  std::optional<StridedMatrix> ids;
  std::optional<StridedMatrix> weights;
};

template <class T>
StridedMatrix matrix_of(const std::vector<std::int64_t>& values, std::int64_t num_rows, std::int64_t num_columns,
                        Residence* residence, RandomBits* random) {
  StridedMatrix matrix(residence, random, StridedMatrix::Rows::kAny, data_type_of<T>(), num_rows, num_columns);
  std::vector<T> row(num_columns);
  for (std::int64_t row_idx = 0; row_idx < num_rows; ++row_idx) {
    for (std::int64_t i = 0; i < num_columns; ++i) row[i] = static_cast<T>(values[row_idx * num_columns + i]);
    matrix.set_row(row_idx, reinterpret_cast<const std::byte*>(row.data()));
  }
  return matrix;
}

DispatchInputs make_inputs(const Step& step, const Shape& shape, const TokenSet& tokens, int rank, Residence* residence,
                           RandomBits* random) {
  DispatchInputs inputs;
  const std::int64_t num_tokens = tokens.num_tokens[rank];
  const std::vector<Lane> lanes = given_lanes(shape);
  for (std::size_t lane_idx = 0; lane_idx < lanes.size(); ++lane_idx) {
    const Lane& lane = lanes[lane_idx];
    const auto rows = lane_idx == 0 ? StridedMatrix::Rows::kDense : StridedMatrix::Rows::kAny;
    StridedMatrix matrix(residence, random, rows, lane.dtype, num_tokens, lane.num_elements);
    std::vector<std::byte> row(lane.row_bytes());
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      fill_given_row(step, shape, static_cast<int>(lane_idx), rank, token, row.data());
      matrix.set_row(token, row.data());
    }
    inputs.lanes.push_back(std::move(matrix));
  }
  for (StridedMatrix& lane : inputs.lanes) inputs.lane_views.emplace_back(lane.for_call());
  if (step.call == Call::kCachedDispatch) return inputs;

  inputs.ids = random->one_in(2) ? matrix_of<std::int32_t>(tokens.ids[rank], num_tokens, shape.top_k, residence, random)
                                 : matrix_of<std::int64_t>(tokens.ids[rank], num_tokens, shape.top_k, residence, random);
  if (tokens.weights.empty()) return inputs;
  inputs.weights.emplace(residence, random, StridedMatrix::Rows::kAny, DataType::kFloat32, num_tokens, shape.top_k);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    inputs.weights->set_row(token, reinterpret_cast<const std::byte*>(tokens.weights[rank].data() + token * shape.top_k));
  }
  return inputs;
}

}  // namespace

RankRun::RankRun(const Case& random_case, const Expectations& expectations, const Group& group, Residence* residence,
                 Findings* findings)
    : case_(random_case), expectations_(expectations), residence_(residence), findings_(findings), rank_(group.rank()) {
  for (const Shape& shape : case_.shapes) {
    plans_.push_back(group.plan(shape));
    expected_counters_.emplace_back(static_cast<std::size_t>(case_.num_ranks));
  }
  for (std::size_t step_idx = 0; step_idx < case_.steps.size(); ++step_idx) {
    last_uses_[case_.steps[step_idx].result] = step_idx;
    last_uses_[case_.steps[step_idx].routing_of] = step_idx;
  }
}

void RankRun::run() {
  for (std::size_t step_idx = 0; step_idx < case_.steps.size(); ++step_idx) {
    const Step& step = case_.steps[step_idx];
    switch (step.call) {
      case Call::kDispatch:
      case Call::kCachedDispatch: dispatch(step); break;
      case Call::kCombine: combine(step); break;
      case Call::kComplete:
        open_calls_.at(step.pending).finish();
        open_calls_.erase(step.pending);
        break;
      case Call::kRelease: release(step); break;
      case Call::kPlace: plans_[step.plan].place(case_.placements[step.placement]); break;
    }
    forget_unused(step_idx);
  }
  for (const auto& [number, result] : results_) check_routing_of(result, "at the end");
  check_counters();
  if (case_.drops_plans_first) plans_.clear();
}

void RankRun::check_counters() {
  for (std::size_t plan = 0; plan < plans_.size(); ++plan) {
    if (case_.shapes[plan].mode != Mode::kLatency) continue;
    const std::vector<PeerCounters> counters = plans_[plan].counters();
    for (int peer = 0; peer < case_.num_ranks; ++peer) {
      const PeerCounters& expected = expected_counters_[plan][peer];
      if (counters[peer].num_calls == expected.num_calls && counters[peer].num_rows == expected.num_rows) continue;
      findings_->add("rank {}: plan {} counts {} calls and {} rows of rank {}, expected {} and {}", rank_, plan,
                     counters[peer].num_calls, counters[peer].num_rows, peer, expected.num_calls, expected.num_rows);
    }
  }
}

void RankRun::forget_unused(std::size_t step_idx) {
  RandomBits random(seed_of(case_.seed, step_idx, rank_));
  for (auto result = results_.begin(); result != results_.end();) {
    if (last_uses_[result->first] > step_idx || random.one_in(2)) {
      ++result;
      continue;
    }
    let_go(&result->second, &random);
    check_routing_of(result->second, "after its release");
    result = results_.erase(result);
  }
}

// Routings keep what they know, whatever became of the slots.
void RankRun::check_routing_of(const ResultOfStep& result, const std::string& moment) {
  const Step& step = *result.step;
  check_routing(result, case_.token_sets[step.token_set].num_tokens[rank_], plans_[step.plan].sizes(),
                fmt::format("{}, {}", when(rank_, step), moment), findings_);
}

std::int64_t RankRun::expected_tensor_rows(const Step& step) const {
  const Shape& shape = case_.shapes[step.plan];
  const reference::Arrived& expected = routed(step).at[rank_];
  const bool fixed = shape.overflow == Overflow::kDrop;
  switch (shape.layout) {
    case Layout::kCompact:
      return fixed ? plans_[step.plan].sizes().recv_capacity : static_cast<std::int64_t>(expected.rows.size());
    case Layout::kExpertContiguous:
      if (!fixed) return expected.expert_offsets.back();
      return plans_[step.plan].sizes().recv_capacity * shape.top_k + expected.num_experts * (shape.expert_alignment - 1);
    case Layout::kExpertPadded: return expected.num_experts * shape.expert_capacity;
  }
  return 0;
}

void RankRun::allocate_outputs(const RecvSizes& sizes, ResultOfStep* result, std::span<TensorView> outputs,
                               RandomBits* random) {
  const Shape& shape = *result->shape;
  for (std::size_t lane_idx = 0; lane_idx < outputs.size(); ++lane_idx) {
    const Lane& lane = shape.lanes[lane_idx];
    const bool padded = shape.layout == Layout::kExpertPadded;
    const std::int64_t num_rows = sizes.num_tensor_rows + (padded ? 0 : random->pick({0, 0, 1, 9}));
    const auto lead_bytes = static_cast<std::size_t>(random->from(0, 3)) * size_of(lane.dtype);
    result->memory.push_back(std::make_unique<GuardedRows>(residence_, num_rows, lane.row_bytes(), lead_bytes));
    std::byte* data = result->memory.back()->data();
    TensorView& output = outputs[lane_idx];
    if (padded) {
      output = {data, lane.dtype, {sizes.num_local_experts, shape.expert_capacity, lane.num_elements}};
    } else {
      output = {data, lane.dtype, {num_rows, lane.num_elements}};
    }
    if (lane.column_major) {
      output.strides[output.num_dims - 1] = output.shape[output.num_dims - 2];
      output.strides[output.num_dims - 2] = 1;
    }
    poison_lane(*result, static_cast<int>(lane_idx), output);
    output = result->memory.back()->for_call(output);
  }
}

void RankRun::check_announced_sizes(const RecvSizes& sizes, const ResultOfStep& result) {
  const auto num_rows = static_cast<std::int64_t>(result.expected->rows.size());
  const std::int64_t num_expanded =
      result.shape->layout == Layout::kCompact ? num_rows : result.expected->expert_offsets.back();
  const std::int64_t tensor_rows = expected_tensor_rows(*result.step);
  const Layout layout = result.shape->layout;
  const bool may_drop = result.shape->overflow == Overflow::kDrop;
  const bool is_unknown = may_drop && residence_->is_stream_ordered();
  bool expanded_fits = sizes.num_expanded_rows == num_expanded;
  if (layout == Layout::kExpertContiguous && may_drop) {
    // Which rows are dropped is not known before they arrive: a bound must do.
    expanded_fits = sizes.num_expanded_rows >= num_expanded && sizes.num_expanded_rows <= sizes.num_tensor_rows;
  }
  if (layout != Layout::kExpertPadded && is_unknown) expanded_fits = sizes.num_expanded_rows == -1;
  if (sizes.num_recv_rows == (is_unknown ? -1 : num_rows) && expanded_fits &&
      sizes.num_local_experts == result.expected->num_experts && sizes.num_tensor_rows == tensor_rows) {
    return;
  }
  // Nothing else about this result can be looked at then.
  throw std::runtime_error(fmt::format("{}: announced {} rows, {} expanded, {} in tensors, {} experts; expected {}, {}, {}, {}",
                                       when(rank_, *result.step), sizes.num_recv_rows, sizes.num_expanded_rows,
                                       sizes.num_tensor_rows, sizes.num_local_experts, num_rows, num_expanded, tensor_rows,
                                       result.expected->num_experts));
}

void RankRun::make_call(const Step& step, RandomBits* random, std::function<void()> whole,
                        std::function<std::shared_ptr<Pending>()> begin, std::function<void(Pending*)> complete,
                        std::function<void()> check_result) {
  const auto check = [this, &step, check_result = std::move(check_result)] {
    for (PeerCounters& counters : expected_counters_[step.plan]) ++counters.num_calls;
    check_result();
  };
  const bool is_whole = step.pending < 0 && !random->one_in(4);
  if (is_whole || only_checks_late(step)) {
    whole();
    residence_->call_is_made();
    // The call, which may be still under way, refers to what `whole` holds.
    const auto finish = [this, whole, check] {
      residence_->finish();
      check();
    };
    if (step.pending < 0) return finish();
    open_calls_[step.pending] = {nullptr, finish};
    return;
  }
  std::shared_ptr<Pending> pending = begin();
  const bool looks = random->one_in(2);
  const auto patience = std::chrono::milliseconds(random->from(0, 2));
  const auto finish = [this, &step, looks, patience, pending, complete = std::move(complete), check] {
    if (residence_->is_stream_ordered()) {
      if (looks) check_cannot_be_asked(step, *pending);
      complete(pending.get());
      residence_->call_is_made();
      residence_->finish();
      return check();
    }
    if (looks && pending->wait(patience) && !pending->done()) findings_->add("{}: waited for, but not done", when(rank_, step));
    complete(pending.get());
    residence_->call_is_made();
    if (!pending->done()) findings_->add("{}: completed, but not done", when(rank_, step));
    check();
  };
  if (step.pending < 0) return finish();
  open_calls_[step.pending] = {pending, finish};
}

bool RankRun::only_checks_late(const Step& step) const {
  return residence_->is_stream_ordered() && step.pending >= 0 && seed_of(step.seed, step.pending) % 2 == 0;
}

void RankRun::check_cannot_be_asked(const Step& step, const Pending& pending) {
  try {
    pending.done();
    findings_->add("{}: a call on a GPU said whether it is done", when(rank_, step));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
  }
}

void RankRun::dispatch(const Step& step) {
  enum class Place { kSlot, kGiven, kAllocated };
  // All that the call is given: it has to last until the call is complete.
  struct Given {
    explicit Given(RandomBits choices) : random(choices) {}
    RandomBits random;
    DispatchInputs inputs;
    std::vector<TensorView> outputs;
    DispatchArgs args;
  };
  const auto given = std::make_shared<Given>(choices_of(step, rank_));
  const TokenSet& tokens = case_.token_sets[step.token_set];
  const Shape& shape = case_.shapes[step.plan];
  RandomBits& random = given->random;
  given->inputs = make_inputs(step, shape, tokens, rank_, residence_, &random);

  ResultOfStep& result = results_[step.result];
  result.step = &step;
  result.shape = &shape;
  result.expected = &routed(step).at[rank_];
  result.residence = residence_;
  result.has_weights = !tokens.weights.empty();

  DispatchArgs& args = given->args;
  args.lanes = given->inputs.lane_views;
  if (step.call == Call::kCachedDispatch) {
    args.routing = &results_.at(step.routing_of).routing;
  } else {
    args.topk_idx = given->inputs.ids->for_call();
    if (given->inputs.weights.has_value()) args.topk_weights = given->inputs.weights->for_call();
  }
  args.slot = step.slot;

  const Place place = random.pick({Place::kSlot, Place::kSlot, Place::kGiven, Place::kAllocated});
  given->outputs.resize(shape.lanes.size());
  if (place == Place::kGiven) {
    RecvSizes sizes;
    sizes.num_tensor_rows = expected_tensor_rows(step);
    sizes.num_local_experts = result.expected->num_experts;
    allocate_outputs(sizes, &result, given->outputs, &random);
    args.outputs = given->outputs;
  } else if (place == Place::kAllocated) {
    args.allocate = [this, &result, &random](const RecvSizes& sizes, std::span<TensorView> views) {
      check_announced_sizes(sizes, result);
      allocate_outputs(sizes, &result, views, &random);
    };
  }

  args.execution = residence_->next_execution(step.pending >= 0 && !only_checks_late(step), shape.overflow == Overflow::kGrow);
  const Plan& plan = plans_[step.plan];
  const auto check = [this, &step, &tokens, &result, place] {
    result.routing = result.received.routing();
    result.sizes = result.received.sizes();
    const std::string at_first = when(rank_, step);
    check_announced_sizes(result.sizes, result);
    if (result.sizes.num_expanded_rows >= 0 && result.sizes.num_expanded_rows != result.routing.num_expanded_rows()) {
      findings_->add("{}: sizes say {} expanded rows and the Routing {}", at_first, result.sizes.num_expanded_rows,
                     result.routing.num_expanded_rows());
    }
    if (result.received.slot() != step.slot_used) findings_->add("{}: slot {} was used", at_first, result.received.slot());
    if (result.received.live() != (place == Place::kSlot)) findings_->add("{}: live is {}", at_first, result.received.live());
    check_routing(result, tokens.num_tokens[rank_], plans_[step.plan].sizes(), at_first, findings_);
    check_lanes(result, at_first, findings_);
    for (const reference::ReceivedRow& row : result.expected->rows) {
      ++expected_counters_[step.plan][row.source].num_rows;
    }
  };
  make_call(
      step, &random, [&plan, &result, given] { result.received = plan.dispatch(given->args); },
      [&plan, given] { return std::make_shared<PendingDispatch>(plan.begin_dispatch(given->args)); },
      [&result, given](Pending* pending) { result.received = static_cast<PendingDispatch*>(pending)->complete(); }, check);
}

void RankRun::release(const Step& step) {
  RandomBits random = choices_of(step, rank_);
  let_go(&results_.at(step.result), &random);
}

void RankRun::let_go(ResultOfStep* result, RandomBits* random) {
  if (result->is_released) return;
  result->is_released = true;
  if (!result->is_overwritten) check_lanes(*result, when(rank_, *result->step) + ", before its release", findings_);
  if (!result->received.live()) return;
  // Whatever comes next must not find old rows that look right.
  for (std::size_t lane_idx = 0; lane_idx < result->shape->lanes.size(); ++lane_idx) {
    const TensorView lane = result->received.lane(static_cast<int>(lane_idx));
    const OnHost<void> on_host = residence_->fetch(lane);
    poison_lane(*result, static_cast<int>(lane_idx), on_host.view);
    residence_->store(on_host, lane);
  }
  if (random->one_in(2)) {
    result->received.release();
  } else {
    result->received = Received();
  }
}

}  // namespace tokenyard::test
