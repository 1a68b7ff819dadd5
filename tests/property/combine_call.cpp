// RankRun::combine: the call, and its comparison with the reference.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/property/contents.hpp"
#include "tests/property/rank_run.hpp"
#include "tests/property/strided_matrix.hpp"
#include "tests/reference/combine.hpp"

namespace tokenyard::test {
namespace {

// Rows of the layout that stand for something.
std::vector<std::int64_t> real_rows(const ResultOfStep& result) {
  std::vector<std::int64_t> rows;
  if (result.shape->layout == Layout::kCompact) {
    for (std::size_t row = 0; row < result.expected->rows.size(); ++row) rows.push_back(static_cast<std::int64_t>(row));
    return rows;
  }
  for (std::size_t place = 0; place < result.expected->copied_row.size(); ++place) {
    if (result.expected->copied_row[place] >= 0) rows.push_back(static_cast<std::int64_t>(place));
  }
  return rows;
}

// A tensor with a row, or a number, per row of the layout.
ConstTensorView per_row(const Shape& shape, int num_experts, std::int64_t num_rows, DataType dtype, std::int64_t num_elements,
                        const void* data) {
  const bool padded = shape.layout == Layout::kExpertPadded;
  if (num_elements == 0) {
    return padded ? ConstTensorView(data, dtype, {num_experts, shape.expert_capacity})
                  : ConstTensorView(data, dtype, {num_rows});
  }
  return padded ? ConstTensorView(data, dtype, {num_experts, shape.expert_capacity, num_elements})
                : ConstTensorView(data, dtype, {num_rows, num_elements});
}

// What the home of a token gave for the pair that stands in a row of the expert layout.
float weight_from_home(const Step& step, const reference::Arrived& arrived, int top_k, std::int64_t row_idx) {
  const std::int64_t row = arrived.copied_row[row_idx];
  std::int64_t k = 0;
  while (k + 1 < top_k && arrived.place[row * top_k + k] != row_idx) ++k;
  return given_weight_at(step, arrived.rows[row].source, arrived.rows[row].token, k);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

void RankRun::combine(const Step& step) {
  // All that the call is given: it has to last until the call is complete.
  struct Given {
    explicit Given(RandomBits choices) : random(choices) {}
    RandomBits random;
    std::optional<GuardedRows> rows;
    std::optional<GuardedRows> factors, carried;
    std::optional<StridedMatrix> weights;
    std::vector<int> biases;
    std::vector<StridedMatrix> bias_matrices;
    std::optional<StridedMatrix> output, returned;
    CombineArgs args;
  };
  const auto given = std::make_shared<Given>(choices_of(step, rank_));
  const Shape& shape = case_.shapes[step.plan];
  const Lane& lane = combine_lane_of(shape);
  ResultOfStep& result = results_.at(step.result);
  const bool compact = shape.layout == Layout::kCompact;
  const std::int64_t num_tokens = case_.token_sets[step.token_set].num_tokens[rank_];
  const std::int64_t num_rows = result.sizes.num_tensor_rows;
  const std::vector<std::int64_t> rows = real_rows(result);
  RandomBits& random = given->random;

  CombineArgs& args = given->args;
  args.routing = &result.routing;
  args.slot = step.slot;

  // Experts' outputs: over the received rows, in the borrowed buffer, or elsewhere.
  const bool in_slot = result.received.live() && result.step->plan == step.plan && random.one_in(2);
  const auto fill_output_rows = [&](std::byte* output_rows) {
    for (const std::int64_t row : rows) fill_output_row(step, lane, rank_, row, output_rows + row * lane.row_bytes());
  };
  if (in_slot) {
    const bool over_rows = shape.lanes[0] == lane && random.one_in(2);
    const TensorView buffer = over_rows ? result.received.lane(0) : result.received.combine_buffer();
    args.rows = buffer;
    const OnHost<void> on_host = residence_->blank(buffer);
    fill_output_rows(static_cast<std::byte*>(on_host.view.data));
    residence_->store(on_host, buffer);
    result.is_overwritten |= over_rows || (compact && shape.mode == Mode::kThroughput);
  } else {
    given->rows.emplace(residence_, num_rows, lane.row_bytes(),
                        static_cast<std::size_t>(random.from(0, 3)) * size_of(lane.dtype));
    std::byte* output_rows = given->rows->data();
    // NaNs where nobody should look.
    if (num_rows * lane.row_bytes() <= std::size_t{1} << 18) std::memset(output_rows, 0xff, num_rows * lane.row_bytes());
    fill_output_rows(output_rows);
    args.rows = given->rows->for_call(
        per_row(shape, result.expected->num_experts, num_rows, lane.dtype, lane.num_elements, output_rows));
  }

  // `num_numbers` floats, NaNs at first.
  const auto emplace_numbers = [&](std::optional<GuardedRows>* memory, std::int64_t num_numbers) {
    memory->emplace(residence_, num_numbers, sizeof(float), 0);
    auto* numbers = reinterpret_cast<float*>((*memory)->data());
    std::fill_n(numbers, num_numbers, std::numeric_limits<float>::quiet_NaN());
    return numbers;
  };
  const Factors kind_of_factors = factors_of(case_, step, rank_);
  args.use_routing_weights = kind_of_factors == Factors::kOfRouting;
  if (kind_of_factors == Factors::kGiven) {
    float* factors = emplace_numbers(&given->factors, num_rows);
    for (const std::int64_t row : rows) factors[row] = factor_at(step, rank_, row);
    args.factors =
        given->factors->for_call(per_row(shape, result.expected->num_experts, num_rows, DataType::kFloat32, 0, factors));
  }
  if (kind_of_factors == Factors::kFromHome) {
    given->weights.emplace(residence_, &random, StridedMatrix::Rows::kAny, DataType::kFloat32, num_tokens, shape.top_k);
    std::vector<float> weights(shape.top_k);
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      for (int k = 0; k < shape.top_k; ++k) weights[k] = given_weight_at(step, rank_, token, k);
      given->weights->set_row(token, reinterpret_cast<const std::byte*>(weights.data()));
    }
    args.topk_weights = given->weights->for_call();
  }

  if (step.carries_weights) {
    const std::int64_t per_place = compact ? shape.top_k : 1;
    float* carried = emplace_numbers(&given->carried, num_rows * per_place);
    for (const std::int64_t row : rows) {
      for (std::int64_t place = row * per_place; place < (row + 1) * per_place; ++place) {
        carried[place] = carried_weight_at(step, rank_, place);
      }
    }
    args.carried_weights = given->carried->for_call(
        compact ? ConstTensorView(carried, DataType::kFloat32, {num_rows, shape.top_k})
                : per_row(shape, result.expected->num_experts, num_rows, DataType::kFloat32, 0, carried));
    given->returned.emplace(residence_, &random, StridedMatrix::Rows::kAny, DataType::kFloat32, num_tokens, shape.top_k);
    args.returned_weights = given->returned->for_call();
  }

  std::vector<std::byte> row(lane.row_bytes());
  for (int bias = 0; bias < 2; ++bias) {
    if (random.one_in(2)) continue;
    given->biases.push_back(bias);
    given->bias_matrices.emplace_back(residence_, &random, StridedMatrix::Rows::kDense, lane.dtype, num_tokens,
                                      lane.num_elements);
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      fill_bias_row(step, lane, rank_, bias, token, row.data());
      given->bias_matrices.back().set_row(token, row.data());
    }
    args.biases[bias] = given->bias_matrices.back().for_call();
  }

  given->output.emplace(residence_, &random, StridedMatrix::Rows::kDense, lane.dtype, num_tokens, lane.num_elements);
  args.output = given->output->for_call();
  const bool may_use_engines =
      in_slot && compact && shape.overflow == Overflow::kGrow && !shape.combine_as_float8 && kind_of_factors == Factors::kNone;
  args.execution = residence_->next_execution(step.pending >= 0 && !only_checks_late(step), may_use_engines);
  const Plan& plan = plans_[step.plan];
  make_call(
      step, &random, [&plan, given] { plan.combine(given->args); },
      [&plan, given] { return std::make_shared<PendingCombine>(plan.begin_combine(given->args)); },
      [](Pending* pending) { static_cast<PendingCombine*>(pending)->complete(); },
      [this, &step, in_slot, given] {
        check_combined(step, given->biases, in_slot, &*given->output, given->returned ? &*given->returned : nullptr);
      });
}

void RankRun::check_combined(const Step& step, const std::vector<int>& biases, bool in_slot, StridedMatrix* output,
                             StridedMatrix* returned) {
  const Shape& shape = case_.shapes[step.plan];
  const Lane& lane = combine_lane_of(shape);
  const std::int64_t num_tokens = case_.token_sets[step.token_set].num_tokens[rank_];
  const reference::World& world = expectations_.world(step.placement);
  const reference::Routed& routes = routed(step);
  reference::ExpertOutputs outputs;
  outputs.number = number_of(lane.dtype);
  outputs.num_elements = lane.num_elements;
  outputs.return_as_float8 = shape.combine_as_float8;
  outputs.read_row = [&](int rank, std::int64_t row_idx, std::byte* elements) {
    fill_output_row(step, lane, rank, row_idx, elements);
  };
  std::vector<Factors> factors_by_rank;
  for (int rank = 0; rank < case_.num_ranks; ++rank) {
    factors_by_rank.push_back(factors_of(case_, step, rank));
    outputs.has_factors.push_back(factors_by_rank.back() != Factors::kNone);
  }
  outputs.factor = [&](int rank, std::int64_t row_idx) {
    const reference::Arrived& arrived = routes.at[rank];
    switch (factors_by_rank[rank]) {
      case Factors::kOfRouting: return arrived.place_weights[row_idx];
      case Factors::kFromHome: return weight_from_home(step, arrived, shape.top_k, row_idx);
      default: return factor_at(step, rank, row_idx);
    }
  };

  output->take_back();
  if (returned != nullptr) returned->take_back();
  const std::string when = fmt::format("rank {}, {}{}", rank_, describe(step), in_slot ? " (rows in the slot)" : "");
  std::vector<std::byte> row(lane.row_bytes());
  std::vector<std::byte> actual(lane.row_bytes());
  std::vector<std::vector<std::byte>> bias_rows(biases.size(), row);
  std::vector<const std::byte*> bias_views;
  for (const auto& bias_row : bias_rows) bias_views.push_back(bias_row.data());
  int num_wrong = 0;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::size_t i = 0; i < biases.size(); ++i) fill_bias_row(step, lane, rank_, biases[i], token, bias_rows[i].data());
    reference::combine_token(world, routes, rank_, token, outputs, bias_views, row.data());
    output->get_row(token, actual.data());
    if (row == actual || num_wrong++ > 0) continue;
    const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
    const auto element = (std::mismatch(row.begin(), row.end(), actual.begin()).first - row.begin()) / element_bytes;
    std::string bits[2];
    for (std::int64_t byte = element_bytes - 1; byte >= 0; --byte) {
      bits[0] += fmt::format("{:02x}", static_cast<int>(actual[element * element_bytes + byte]));
      bits[1] += fmt::format("{:02x}", static_cast<int>(row[element * element_bytes + byte]));
    }
    findings_->add("{}: token {}, which visited {} ranks, with {} biases: element {} is {}, expected {}", when, token,
                   routes.visits[rank_][token].size(), biases.size(), element, bits[0], bits[1]);
  }
  if (num_wrong > 1) findings_->add("{}: {} tokens in all are wrong", when, num_wrong);
  if (!output->erase()) findings_->add("{}: bytes between the output's rows were overwritten", when);

  if (!step.carries_weights) return;
  const auto carried_at = [&](int rank, std::int64_t place) { return carried_weight_at(step, rank, place); };
  std::vector<float> weights(shape.top_k);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    returned->get_row(token, reinterpret_cast<std::byte*>(weights.data()));
    if (same_bits(weights, reference::return_weights(world, routes, rank_, token, carried_at))) continue;
    findings_->add("{}: the returned weights of token {} are wrong", when, token);
    break;
  }
  if (!returned->erase()) findings_->add("{}: bytes between the returned weights were overwritten", when);
}

}  // namespace tokenyard::test
