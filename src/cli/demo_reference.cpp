#include "cli/demo_reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/plain_rounding.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::int64_t kScaleBlock = 128;
constexpr float kSmallestAmax = 1e-4F;
constexpr float kLargestFloat8 = 448.0F;

std::vector<float> make_inputs(const ReferenceInput& input, bool rounded) {
  const std::vector<std::int32_t>& tokens = *input.tokens;
  const std::int64_t hidden = input.model.hidden;
  std::vector<float> rows(tokens.size() * static_cast<std::size_t>(hidden));
  for (std::size_t token = 0; token < tokens.size(); ++token) {
    float* row = rows.data() + token * static_cast<std::size_t>(hidden);
    write_hidden_state(input.model, tokens[token], token == 0 ? -1 : tokens[token - 1], row);
    if (!rounded || input.payload == Payload::kFloat32) continue;
    if (input.payload == Payload::kFloat8) {
      round_like_float8(row, hidden);
    } else {
      for (std::int64_t i = 0; i < hidden; ++i) row[i] = round_to(row[i], kBFloat16Format);
    }
  }
  return rows;
}

// The rows of all (token, k), computed expert by expert, so that only one expert's weights exist at a time.
std::vector<float> apply_experts(const ReferenceInput& input, const std::vector<float>& rows,
                                 const std::function<void()>& progress) {
  const auto hidden = static_cast<std::size_t>(input.model.hidden);
  const std::size_t num_pairs = input.tokens->size() * static_cast<std::size_t>(input.top_k);
  std::vector<float> pair_rows(num_pairs * hidden);
  std::vector<std::size_t> pairs;
  std::vector<float> gathered;
  for (int expert_idx = 0; expert_idx < input.model.num_experts; ++expert_idx) {
    pairs.clear();
    gathered.clear();
    for (std::size_t pair = 0; pair < num_pairs; ++pair) {
      if (input.topk_idx[pair] != expert_idx) continue;
      pairs.push_back(pair);
      const float* row = rows.data() + pair / static_cast<std::size_t>(input.top_k) * hidden;
      gathered.insert(gathered.end(), row, row + hidden);
    }
    Expert(input.model, expert_idx).apply(gathered.data(), static_cast<std::int64_t>(pairs.size()), gathered.data());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      std::copy_n(gathered.data() + i * hidden, hidden, pair_rows.data() + pairs[i] * hidden);
    }
    progress();
  }
  return pair_rows;
}

}  // namespace

void round_like_float8(float* row, std::int64_t num_elements) {
  for (std::int64_t first = 0; first < num_elements; first += kScaleBlock) {
    const std::int64_t end = std::min(first + kScaleBlock, num_elements);
    float amax = kSmallestAmax;
    for (std::int64_t i = first; i < end; ++i) amax = std::max(amax, std::fabs(row[i]));
    const float scale = amax / kLargestFloat8;
    for (std::int64_t i = first; i < end; ++i) row[i] = round_to(row[i] / scale, kFloat8E4M3Format) * scale;
  }
}

ReferenceOutput compute_reference(const ReferenceInput& input, const std::function<void()>& progress) {
  const std::int64_t hidden = input.model.hidden;
  const auto num_tokens = static_cast<std::int64_t>(input.tokens->size());
  const std::int64_t experts_per_rank = (input.model.num_experts + input.num_ranks - 1) / input.num_ranks;
  const std::vector<float> inputs = make_inputs(input, true);
  const std::vector<float> pair_rows = apply_experts(input, inputs, progress);

  std::vector<float> shared_rows;
  if (input.shared_expert) {
    shared_rows = make_inputs(input, false);  // it never leaves its rank, so nothing rounds it
    Expert(input.model, input.model.num_experts).apply(shared_rows.data(), num_tokens, shared_rows.data());
  }

  ReferenceOutput output;
  output.rows.resize(static_cast<std::size_t>(num_tokens * hidden));
  output.magnitudes.resize(output.rows.size());
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t i = 0; i < hidden; ++i) {
      float sum = 0;
      float magnitude = 0;
      for (int rank = 0; rank < input.num_ranks; ++rank) {
        float contribution = 0;
        for (int k = 0; k < input.top_k; ++k) {
          const std::int64_t pair = token * input.top_k + k;
          if (input.topk_idx[pair] < 0 || input.topk_idx[pair] / experts_per_rank != rank) continue;
          const float term = input.topk_weights[pair] * pair_rows[static_cast<std::size_t>(pair * hidden + i)];
          contribution += term;
          magnitude += std::fabs(term);
        }
        sum += contribution;
      }
      if (input.shared_expert) {
        const float shared = shared_rows[static_cast<std::size_t>(token * hidden + i)];
        sum += shared;
        magnitude += std::fabs(shared);
      }
      output.rows[static_cast<std::size_t>(token * hidden + i)] = sum;
      output.magnitudes[static_cast<std::size_t>(token * hidden + i)] = magnitude;
    }
  }
  return output;
}

double error_factor(const ReferenceInput& input) {
  if (input.payload == Payload::kFloat32) return 0;
  constexpr double kFloat32Roundoff = 0x1p-24;
  const int num_terms = input.top_k + input.num_ranks + 2;
  return std::pow(1 + unit_roundoff(kBFloat16Format), 3) * std::pow(1 + kFloat32Roundoff, 2 * num_terms) - 1;
}

Comparison compare(const float* results, const ReferenceOutput& reference, double factor) {
  Comparison comparison;
  for (std::size_t i = 0; i < reference.rows.size(); ++i) {
    const double error = std::fabs(static_cast<double>(results[i]) - static_cast<double>(reference.rows[i]));
    const double bound = factor * static_cast<double>(reference.magnitudes[i]);
    if (!(error <= bound)) ++comparison.num_beyond;
    if (!(error <= comparison.largest_error)) {
      comparison.largest_error = error;
      comparison.bound_there = bound;
    }
    const double share = error == 0 ? 0 : error / bound;
    if (!(share <= comparison.largest_share)) comparison.largest_share = share;
  }
  return comparison;
}

std::int64_t count_wrong_choices(const ReferenceInput& input) {
  constexpr double kTolerance = 1e-5;  // float32 exponentials and sums differ by less, wrong choices by far more
  const int num_experts = input.model.num_experts;
  const Gate gate(input.model);
  std::vector<float> row(static_cast<std::size_t>(input.model.hidden));
  std::vector<float> logits(static_cast<std::size_t>(num_experts));
  std::int64_t num_wrong = 0;
  for (std::size_t token = 0; token < input.tokens->size(); ++token) {
    write_hidden_state(input.model, (*input.tokens)[token], token == 0 ? -1 : (*input.tokens)[token - 1], row.data());
    gate.write_logits(row.data(), logits.data());
    const std::int64_t* ids = input.topk_idx + token * static_cast<std::size_t>(input.top_k);
    const float* weights = input.topk_weights + token * static_cast<std::size_t>(input.top_k);

    std::vector<bool> chosen(static_cast<std::size_t>(num_experts));
    bool is_wrong = false;
    double sum = 0;
    double least_chosen = std::numeric_limits<double>::infinity();
    for (int k = 0; k < input.top_k; ++k) {
      if (ids[k] < 0 || ids[k] >= num_experts || chosen[static_cast<std::size_t>(ids[k])]) {
        is_wrong = true;
        continue;
      }
      chosen[static_cast<std::size_t>(ids[k])] = true;
      const auto logit = static_cast<double>(logits[static_cast<std::size_t>(ids[k])]);
      sum += std::exp(logit);
      least_chosen = std::min(least_chosen, logit);
    }
    for (int expert = 0; expert < num_experts; ++expert) {
      const auto logit = static_cast<double>(logits[static_cast<std::size_t>(expert)]);
      if (!chosen[static_cast<std::size_t>(expert)] && logit > least_chosen + kTolerance) is_wrong = true;
    }
    for (int k = 0; k < input.top_k && !is_wrong; ++k) {
      const double expected = std::exp(static_cast<double>(logits[static_cast<std::size_t>(ids[k])])) / sum;
      if (!(std::fabs(static_cast<double>(weights[k]) - expected) <= kTolerance)) is_wrong = true;
    }
    num_wrong += is_wrong ? 1 : 0;
  }
  return num_wrong;
}

}  // namespace tokenyard::cli
