#include "tests/property/contents.hpp"

#include <cstring>

#include "tests/reference/float8.hpp"
#include "tests/support/random_contents.hpp"

namespace tokenyard::test {
namespace {

reference::Scale scale_of(ScaleFormat format) {
  switch (format) {
    case ScaleFormat::kFloat32: return reference::Scale::kFloat;
    case ScaleFormat::kFloat32PowerOf2: return reference::Scale::kFloatPowerOfTwo;
    case ScaleFormat::kUE8M0: return reference::Scale::kExponent;
  }
  return {};
}

enum Purpose { kLaneRow, kOutputRow, kFactor, kCarriedWeight, kBiasRow, kFactors, kChoices, kGivenWeight };

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

std::vector<Lane> given_lanes(const Shape& shape) {
  std::vector<Lane> lanes = shape.lanes;
  if (shape.quantization.has_value()) {
    lanes.erase(lanes.begin());
    lanes[0] = {shape.quantization->from, shape.lanes[0].num_elements};
  }
  return lanes;
}

void fill_given_row(const Step& step, const Shape& shape, int tensor_idx, int source, std::int64_t token, std::byte* row) {
  const std::uint64_t seed = seed_of(step.seed, kLaneRow, tensor_idx, source, token);
  const Lane lane = given_lanes(shape)[tensor_idx];
  if (shape.quantization.has_value() && tensor_idx == 0) {
    fill_numbers(seed, style_of(step.seed), lane.dtype, row, lane.num_elements);
  } else {
    fill_bytes(seed, row, lane.row_bytes());
  }
}

void fill_lane_row(const Step& step, const Shape& shape, int lane, int source, std::int64_t token, std::byte* row) {
  if (!shape.quantization.has_value()) return fill_given_row(step, shape, lane, source, token, row);
  if (lane > 1) return fill_given_row(step, shape, lane - 1, source, token, row);
  const DataType from = shape.quantization->from;
  std::vector<std::byte> given(static_cast<std::size_t>(shape.lanes[0].num_elements) * size_of(from));
  fill_given_row(step, shape, 0, source, token, given.data());
  std::vector<float> values(shape.lanes[0].num_elements);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(reference::read(number_of(from), given.data() + i * size_of(from)));
  }
  std::vector<std::byte> codes(shape.lanes[0].row_bytes());
  std::vector<std::byte> scales(shape.lanes[1].row_bytes());
  reference::quantize_row(values, scale_of(shape.quantization->format), codes.data(), scales.data());
  const std::vector<std::byte>& wanted = lane == 0 ? codes : scales;
  std::memcpy(row, wanted.data(), wanted.size());
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

float given_weight_at(const Step& step, int source, std::int64_t token, std::int64_t k) {
  return random_float(seed_of(step.seed, kGivenWeight, source, token, k), style_of(step.seed));
}

void fill_bias_row(const Step& step, const Lane& lane, int rank, int bias, std::int64_t token, std::byte* row) {
  fill_numbers(seed_of(step.seed, kBiasRow, rank, bias, token), style_of(step.seed), lane.dtype, row, lane.num_elements);
}

Factors factors_of(const Case& random_case, const Step& step, int rank) {
  if (step.gives_weights) return Factors::kFromHome;
  RandomBits random(seed_of(step.seed, kFactors, rank));
  const bool has_routing_weights =
      random_case.shapes[0].layout != Layout::kCompact && !random_case.token_sets[step.token_set].weights.empty();
  return random.pick({Factors::kNone, Factors::kGiven, has_routing_weights ? Factors::kOfRouting : Factors::kNone});
}

RandomBits choices_of(const Step& step, int rank) { return RandomBits(seed_of(step.seed, kChoices, rank)); }

}  // namespace tokenyard::test
