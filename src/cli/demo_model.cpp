#include "cli/demo_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "cli/random_bits.hpp"

namespace tokenyard::cli {
namespace {

enum Purpose : std::uint64_t { kEmbedding, kGate, kExpertGate, kExpertUp, kExpertDown };

// Rows that share one pass over an expert's weights.
constexpr std::int64_t kRowBlock = 8;

// Uniform in (-1, 1), symmetric about 0.
float signed_unit(std::uint64_t bits) { return unit_float(bits) * 2.0F - (1.0F - 0x1p-24F); }

// Numbers of variance 1/num_inputs, so that a sum over num_inputs products keeps the size of its inputs.
std::vector<float> make_weights(std::uint64_t seed, std::int64_t num_inputs, std::int64_t num_outputs) {
  const float scale = std::sqrt(3.0F / static_cast<float>(num_inputs));
  std::vector<float> weights(static_cast<std::size_t>(num_inputs * num_outputs));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = signed_unit(hash_bits(seed, i)) * scale;
  return weights;
}

// outputs[r, j] = sum over i of inputs[r, i] * weights[i, j].
void multiply(const float* inputs, std::int64_t num_rows, const std::vector<float>& weights, std::int64_t num_inputs,
              std::int64_t num_outputs, float* outputs) {
  std::fill_n(outputs, num_rows * num_outputs, 0.0F);
  for (std::int64_t i = 0; i < num_inputs; ++i) {
    const float* weight = weights.data() + i * num_outputs;
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const float input = inputs[row * num_inputs + i];
      float* output = outputs + row * num_outputs;
      for (std::int64_t j = 0; j < num_outputs; ++j) output[j] += input * weight[j];
    }
  }
}

float silu(float value) { return value / (1.0F + std::exp(-value)); }

}  // namespace

void write_hidden_state(const ModelShape& shape, std::int32_t token, std::int32_t previous, float* row) {
  const std::uint64_t own = hash_bits(shape.seed, kEmbedding, token);
  const std::uint64_t before = hash_bits(shape.seed, kEmbedding, previous);
  for (std::int64_t i = 0; i < shape.hidden; ++i) {
    row[i] = signed_unit(hash_bits(own, i));
    if (previous >= 0) row[i] += 0.5F * signed_unit(hash_bits(before, i));
  }
}

Gate::Gate(const ModelShape& shape)
    : shape_(shape), weights_(make_weights(hash_bits(shape.seed, kGate), shape.hidden, shape.num_experts)) {}

void Gate::write_logits(const float* row, float* logits) const {
  multiply(row, 1, weights_, shape_.hidden, shape_.num_experts, logits);
  // A sharper gate than variance 1 would give: some experts clearly matter more than others, as in a trained model.
  for (int expert = 0; expert < shape_.num_experts; ++expert) logits[expert] *= 2.0F;
}

Expert::Expert(const ModelShape& shape, int expert_idx)
    : shape_(shape),
      gate_(make_weights(hash_bits(shape.seed, kExpertGate, expert_idx), shape.hidden, shape.intermediate)),
      up_(make_weights(hash_bits(shape.seed, kExpertUp, expert_idx), shape.hidden, shape.intermediate)),
      down_(make_weights(hash_bits(shape.seed, kExpertDown, expert_idx), shape.intermediate, shape.hidden)) {}

void Expert::apply(const float* inputs, std::int64_t num_rows, float* outputs) const {
  std::vector<float> gated(static_cast<std::size_t>(kRowBlock * shape_.intermediate));
  std::vector<float> raised(gated.size());
  for (std::int64_t first = 0; first < num_rows; first += kRowBlock) {
    const std::int64_t num_block_rows = std::min(kRowBlock, num_rows - first);
    const float* input = inputs + first * shape_.hidden;
    multiply(input, num_block_rows, gate_, shape_.hidden, shape_.intermediate, gated.data());
    multiply(input, num_block_rows, up_, shape_.hidden, shape_.intermediate, raised.data());
    for (std::int64_t i = 0; i < num_block_rows * shape_.intermediate; ++i) gated[i] = silu(gated[i]) * raised[i];
    multiply(gated.data(), num_block_rows, down_, shape_.intermediate, shape_.hidden, outputs + first * shape_.hidden);
  }
}

}  // namespace tokenyard::cli
