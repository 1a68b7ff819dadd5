#include "tokenyard/router.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "base/check_tensor.hpp"
#include "router/check_options.hpp"
#include "router/choice.hpp"

namespace tokenyard {
namespace {

template <class Element>
Element load(const ConstTensorView& tensor, std::int64_t row, std::int64_t column) {
  Element element;
  std::memcpy(&element, tensor.at(row, column), sizeof(element));
  return element;
}

template <class Element>
void store(const TensorView& tensor, std::int64_t row, std::int64_t column, Element element) {
  std::memcpy(tensor.at(row, column), &element, sizeof(element));
}

// exp(logit - largest) / (sum of these in the order of the experts). NaNs stay NaNs and count for neither the largest nor the
// sum.
void softmax(std::span<float> scores) {
  float largest = kIneligible;
  for (const float logit : scores) {
    if (logit > largest) largest = logit;
  }
  float sum = 0.0F;
  for (float& score : scores) {
    score = std::exp(score - largest);
    if (!std::isnan(score)) sum += score;
  }
  for (float& score : scores) score /= sum;
}

void sigmoid(std::span<float> scores) {
  for (float& score : scores) score = 1.0F / (1.0F + std::exp(-score));
}

void normalize(std::span<float> weights) {
  float sum = 0.0F;
  for (const float weight : weights) sum += weight;
  if (sum == 0.0F) return;
  for (float& weight : weights) weight /= sum;
}

void store_id(const TensorView& topk_idx, std::int64_t token, std::int64_t k, int expert) {
  if (topk_idx.dtype == DataType::kInt64) {
    store(topk_idx, token, k, static_cast<std::int64_t>(expert));
  } else {
    store(topk_idx, token, k, static_cast<std::int32_t>(expert));
  }
}

}  // namespace

Router::Router(RouterOptions options) : options_(std::move(options)) { check_options(options_); }

void Router::route(ConstTensorView logits, TensorView topk_idx, TensorView topk_weights) const {
  check_matrix("logits", logits);
  const std::int64_t num_tokens = logits.shape[0];
  const std::int64_t top_k = options_.top_k;
  check_matrix("logits [num_tokens, num_experts]", logits, num_tokens, options_.num_experts);
  check_matrix("topk_idx [num_tokens, top_k]", topk_idx, num_tokens, top_k);
  check_matrix("topk_weights [num_tokens, top_k]", topk_weights, num_tokens, top_k);
  check_dtype("logits", logits, {DataType::kFloat32});
  check_dtype("topk_idx", topk_idx, {DataType::kInt32, DataType::kInt64});
  check_dtype("topk_weights", topk_weights, {DataType::kFloat32});

  Choice choice(options_);
  std::vector<float> scores(static_cast<std::size_t>(options_.num_experts));
  std::vector<float> biased_scores;
  std::vector<float> weights;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (int expert = 0; expert < options_.num_experts; ++expert) scores[expert] = load<float>(logits, token, expert);
    if (options_.scoring == Scoring::kSoftmax) {
      softmax(scores);
    } else {
      sigmoid(scores);
    }

    biased_scores = scores;
    if (!options_.correction_bias.empty()) {
      for (int expert = 0; expert < options_.num_experts; ++expert) biased_scores[expert] += options_.correction_bias[expert];
    }
    const std::span<const int> chosen = choice.choose(biased_scores);

    weights.clear();
    for (const int expert : chosen) weights.push_back(scores[expert]);
    if (options_.normalize) normalize(weights);
    for (std::int64_t k = 0; k < top_k; ++k) {
      const bool is_chosen = k < static_cast<std::int64_t>(chosen.size());
      store_id(topk_idx, token, k, is_chosen ? chosen[k] : -1);
      store(topk_weights, token, k, is_chosen ? weights[k] * options_.scale : 0.0F);
    }
  }
}

}  // namespace tokenyard
