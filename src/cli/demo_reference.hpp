// The layer once more, in one process and by plain loops: what the ranks' results are compared with. Includes nothing of the
// library.
//
// The reference starts from the inputs as the ranks send them (rounded to bfloat16, or to FP8 with their scales, by its own
// arithmetic) and is float32 from there on, in the order that combine documents: a rank's contribution is the sum of weight *
// row in top-k order, the result the sum of the contributions in rank order, the shared expert's row is added last. Where the
// payload is float32 the ranks must therefore agree with it to the bit.
//
// Elsewhere the ranks round each expert's row, each contribution, the shared expert's row and the result to bfloat16: no term
// of the sum goes through more than three of these roundings, each of which changes a number by at most u = 2^-8 of itself.
// Ranks and reference add at most n = top_k + num_ranks + 2 numbers in float32, each with v = 2^-24 at most. So
//     |result - reference| <= ((1 + u)^3 (1 + v)^(2n) - 1) * (sum over k of |weight * row| + |shared row|)
// for every element. For float32 the bound is 0.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cli/demo_model.hpp"

namespace tokenyard::cli {

enum class Payload : std::uint8_t { kFloat32, kBFloat16, kFloat8 };

struct ReferenceInput {
  ModelShape model;
  Payload payload = Payload::kFloat32;
  bool shared_expert = false;
  int num_ranks = 1;  // expert e lives on rank e / ceil(num_experts / num_ranks)
  int top_k = 1;
  const std::vector<std::int32_t>* tokens = nullptr;  // the text
  // What the gate chose: [num_tokens, top_k]; ids of -1 are skipped.
  const std::int64_t* topk_idx = nullptr;
  const float* topk_weights = nullptr;
};

struct ReferenceOutput {
  std::vector<float> rows;        // [num_tokens, hidden]
  std::vector<float> magnitudes;  // the same of absolute values: what the bound is a multiple of
};

// progress is called once per expert.
ReferenceOutput compute_reference(const ReferenceInput& input, const std::function<void()>& progress);

// The factor on the magnitudes in the bound above; 0 for float32.
double error_factor(const ReferenceInput& input);

// What FP8 with one float32 scale per 128 values makes of a row: v -> round(v / scale) * scale, scale = max(|v|, 1e-4) / 448.
void round_like_float8(float* row, std::int64_t num_elements);

struct Comparison {
  double largest_error = 0;
  double bound_there = 0;       // at the element of the largest error
  double largest_share = 0;     // of its bound that any element's error is; infinite where a bound of 0 is broken
  std::int64_t num_beyond = 0;  // elements beyond their bound, or not finite
};

// results: [num_tokens, hidden], what the ranks computed.
Comparison compare(const float* results, const ReferenceOutput& reference, double factor);

// Tokens whose experts are not the best ones of the logits (by more than rounding), or whose weights are not those of a softmax
// over all experts divided by the chosen ones' sum.
std::int64_t count_wrong_choices(const ReferenceInput& input);

}  // namespace tokenyard::cli
