// Chooses experts for tokens from the gate's scores. Purely local: any ids may be dispatched, whoever chose them.
#pragma once

#include <cstdint>
#include <vector>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// Scores in float32 from a token's logits l, with the exponential function of the C library.
enum class Scoring : std::uint8_t {
  kSoftmax,  // exp(l[e] - max) / sum of exp(l[i] - max) in the order of the experts; NaNs count for neither max nor sum
  kSigmoid,  // 1 / (1 + exp(-l[e]))
};

struct RouterOptions {
  int num_experts = 0;
  int top_k = 0;
  Scoring scoring = Scoring::kSoftmax;
  // Added to the scores for the choice only, never to the weights (DeepSeek-V3's e_score_correction_bias). Empty or one per
  // expert, each finite, or -infinity to rule the expert out.
  std::vector<float> correction_bias{};
  // Group-limited choice: experts stand in num_groups equal consecutive groups; only the top_groups best groups, by the sum of
  // their two best (biased) scores, take part. 1 and 1: no limit. (DeepSeek-V3: 8 and 4.)
  int num_groups = 1;
  int top_groups = 1;
  // Bound on the domains that a token may visit: domain_of_expert[e] numbers domains from 0; only the max_domains best domains,
  // by the sum of their two best (biased) scores, take part. Applies to what the groups have left. Empty and 0: no bound.
  std::vector<std::int32_t> domain_of_expert{};
  int max_domains = 0;
  bool normalize = false;  // weights of a token are divided by their sum, unless that is 0
  float scale = 1.0F;      // weights are multiplied by this last (DeepSeek-V3: 2.5)
};

// A weight is the unbiased score of a chosen expert, normalized, then scaled. Ties go to the lower expert, group or domain. A
// NaN score loses against everything: such an expert is never chosen, nor one that is ruled out; groups and domains are judged
// by the others. Softmax scores are all NaN where the largest logit is infinite. Thread-safe: routing changes nothing.
class Router {
 public:
  // Throws Error(kInvalidArgument) for options that cannot be, with the value and the limit.
  explicit Router(RouterOptions options);

  // logits f32 [num_tokens, num_experts], any strides; topk_idx i32 or i64 [num_tokens, top_k] and topk_weights f32
  // [num_tokens, top_k] are written, by descending (biased) score. Where fewer than top_k experts are eligible the rest of
  // the ids are -1 with weight 0. Purely local; throws Error(kInvalidArgument) for tensors that do not fit.
  void route(ConstTensorView logits, TensorView topk_idx, TensorView topk_weights) const;

  const RouterOptions& options() const noexcept { return options_; }

 private:
  RouterOptions options_;
};

}  // namespace tokenyard
