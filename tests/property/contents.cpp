#include "tests/property/contents.hpp"

#include "tests/support/random_contents.hpp"

namespace tokenyard::test {
namespace {

enum Purpose { kLaneRow, kOutputRow, kFactor, kCarriedWeight, kBiasRow, kFactors, kChoices };

}  // namespace

const Lane& combine_lane_of(const Shape& shape) { return shape.combine.has_value() ? *shape.combine : shape.lanes[0]; }

reference::Number number_of(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat16: return reference::Number::kFloat16;
    case DataType::kBFloat16: return reference::Number::kBFloat16;
    case DataType::kFloat64: return reference::Number::kFloat64;
    default: return reference::Number::kFloat32;
  }
}

void fill_lane_row(const Step& step, int lane, int source, std::int64_t token, std::byte* row, std::size_t row_bytes) {
  fill_bytes(seed_of(step.seed, kLaneRow, lane, source, token), row, row_bytes);
}

void fill_output_row(const Step& step, const Lane& lane, int rank, std::int64_t row_idx, std::byte* row) {
  fill_numbers(seed_of(step.seed, kOutputRow, rank, row_idx), style_of(step.seed), lane.dtype, row, lane.num_elements);
}

float factor_at(const Step& step, int rank, std::int64_t row_idx) {
  return random_float(seed_of(step.seed, kFactor, rank, row_idx), style_of(step.seed));
}

float carried_weight_at(const Step& step, int rank, std::int64_t place) {
  return random_float(seed_of(step.seed, kCarriedWeight, rank, place), style_of(step.seed));
}

void fill_bias_row(const Step& step, const Lane& lane, int rank, int bias, std::int64_t token, std::byte* row) {
  fill_numbers(seed_of(step.seed, kBiasRow, rank, bias, token), style_of(step.seed), lane.dtype, row, lane.num_elements);
}

Factors factors_of(const Case& random_case, const Step& step, int rank) {
  RandomBits random(seed_of(step.seed, kFactors, rank));
  const bool has_routing_weights =
      random_case.shapes[0].layout != Layout::kCompact && !random_case.token_sets[step.token_set].weights.empty();
  return random.pick({Factors::kNone, Factors::kGiven, has_routing_weights ? Factors::kOfRouting : Factors::kNone});
}

RandomBits choices_of(const Step& step, int rank) { return RandomBits(seed_of(step.seed, kChoices, rank)); }

}  // namespace tokenyard::test
