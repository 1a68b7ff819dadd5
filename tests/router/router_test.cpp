#include "tokenyard/router.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/base/expect_error.hpp"

namespace tokenyard::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Pick {
  std::int64_t expert = -1;
  float weight = 0.0F;
};

// The options' meaning once more, by sorting whole lists.
class ReferenceRouter {
 public:
  explicit ReferenceRouter(RouterOptions options) : options_(std::move(options)) {}

  std::vector<Pick> route(const std::vector<float>& logits) const {
    const std::vector<float> scores = score(logits);
    std::vector<float> biased = scores;
    std::vector<int> eligible;
    for (int expert = 0; expert < options_.num_experts; ++expert) {
      if (!options_.correction_bias.empty()) biased[expert] += options_.correction_bias[expert];
      if (!std::isnan(biased[expert]) && biased[expert] != -kInfinity) eligible.push_back(expert);
    }

    const int group_size = options_.num_experts / options_.num_groups;
    eligible = limit(eligible, biased, options_.top_groups, [&](int expert) { return expert / group_size; });
    if (!options_.domain_of_expert.empty()) {
      eligible = limit(eligible, biased, options_.max_domains, [&](int expert) { return options_.domain_of_expert[expert]; });
    }
    std::stable_sort(eligible.begin(), eligible.end(), [&](int left, int right) { return biased[left] > biased[right]; });

    std::vector<Pick> picks(static_cast<std::size_t>(options_.top_k));
    float sum = 0.0F;
    for (std::size_t k = 0; k < std::min(picks.size(), eligible.size()); ++k) {
      picks[k] = {eligible[k], scores[eligible[k]]};
      sum += picks[k].weight;
    }
    for (Pick& pick : picks) {
      if (options_.normalize && sum != 0.0F) pick.weight /= sum;
      pick.weight *= options_.scale;
    }
    return picks;
  }

 private:
  std::vector<float> score(std::vector<float> values) const {
    if (options_.scoring == Scoring::kSigmoid) {
      for (float& value : values) value = 1.0F / (1.0F + std::exp(-value));
      return values;
    }
    float largest = -kInfinity;
    for (const float value : values) largest = std::isnan(value) ? largest : std::max(largest, value);
    float sum = 0.0F;
    for (const float value : values) sum += std::isnan(std::exp(value - largest)) ? 0.0F : std::exp(value - largest);
    for (float& value : values) value = std::exp(value - largest) / sum;
    return values;
  }

  template <class PartOf>
  static std::vector<int> limit(const std::vector<int>& eligible, const std::vector<float>& biased, int num_kept,
                                PartOf part_of) {
    std::map<int, std::vector<float>> scores_of_part;
    for (const int expert : eligible) scores_of_part[part_of(expert)].push_back(biased[expert]);
    std::vector<std::pair<float, int>> order;  // negative sum, part: ascending is best first and ties by number
    for (auto& [part, scores] : scores_of_part) {
      std::sort(scores.rbegin(), scores.rend());
      order.emplace_back(scores.size() == 1 ? -scores[0] : -(scores[0] + scores[1]), part);
    }
    std::sort(order.begin(), order.end());
    std::set<int> kept;
    for (const auto& [negative_sum, part] : order) {
      if (static_cast<int>(kept.size()) < num_kept) kept.insert(part);
    }
    std::vector<int> remaining;
    for (const int expert : eligible) {
      if (kept.contains(part_of(expert))) remaining.push_back(expert);
    }
    return remaining;
  }

  RouterOptions options_;
};

// Routes tokens given as lists of logits.
std::vector<std::vector<Pick>> route(const RouterOptions& options, const std::vector<std::vector<float>>& tokens) {
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  std::vector<float> logits;
  for (const std::vector<float>& token : tokens) logits.insert(logits.end(), token.begin(), token.end());
  std::vector<std::int64_t> ids(static_cast<std::size_t>(num_tokens * options.top_k), 99);
  std::vector<float> weights(ids.size(), 99.0F);
  Router(options).route(tensor(logits.data(), {num_tokens, options.num_experts}),
                        tensor(ids.data(), {num_tokens, options.top_k}), tensor(weights.data(), {num_tokens, options.top_k}));
  std::vector<std::vector<Pick>> picks(tokens.size());
  for (std::size_t idx = 0; idx < ids.size(); ++idx) picks[idx / options.top_k].push_back({ids[idx], weights[idx]});
  return picks;
}

std::vector<Pick> route(const RouterOptions& options, const std::vector<float>& token) {
  return route(options, std::vector<std::vector<float>>{token}).front();
}

std::vector<std::int64_t> ids_of(const std::vector<Pick>& picks) {
  std::vector<std::int64_t> ids;
  for (const Pick& pick : picks) ids.push_back(pick.expert);
  return ids;
}

using Ids = std::vector<std::int64_t>;

RouterOptions plain_options(int num_experts, int top_k, Scoring scoring = Scoring::kSoftmax) {
  RouterOptions options;
  options.num_experts = num_experts;
  options.top_k = top_k;
  options.scoring = scoring;
  return options;
}

void expect_same(const std::vector<Pick>& actual, const std::vector<Pick>& expected) {
  ASSERT_EQ(ids_of(actual), ids_of(expected));
  for (std::size_t k = 0; k < actual.size(); ++k) ASSERT_EQ(actual[k].weight, expected[k].weight) << "k " << k;
}

RouterOptions deepseek_v3_options() {
  RouterOptions options = plain_options(256, 8, Scoring::kSigmoid);
  options.num_groups = 8;
  options.top_groups = 4;
  options.normalize = true;
  options.scale = 2.5F;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0F, 0.05F);
  for (int expert = 0; expert < options.num_experts; ++expert) options.correction_bias.push_back(normal(random));
  return options;
}

RouterOptions random_options(std::mt19937& random) {
  const auto below = [&](int limit) { return static_cast<int>(random() % static_cast<unsigned>(limit)); };
  RouterOptions options;
  options.num_groups = 1 + below(8);
  const int group_size = 1 + below(below(10) == 0 ? 128 : 12);
  options.num_experts = options.num_groups * group_size;
  options.top_groups = 1 + below(options.num_groups);
  options.top_k = 1 + below(std::min(32, options.top_groups * group_size));
  options.scoring = below(2) == 0 ? Scoring::kSoftmax : Scoring::kSigmoid;
  options.normalize = below(2) == 0;
  options.scale = below(2) == 0 ? 1.0F : 2.5F;
  if (below(2) == 0) {
    for (int expert = 0; expert < options.num_experts; ++expert) {
      options.correction_bias.push_back(below(12) == 0 ? -kInfinity : static_cast<float>(below(5) - 2) / 8);
    }
  }
  if (below(2) == 0) {
    const int num_domains = 1 + below(6);
    options.max_domains = 1 + below(num_domains);
    for (int expert = 0; expert < options.num_experts; ++expert) options.domain_of_expert.push_back(below(num_domains));
  }
  return options;
}

std::vector<float> random_logits(int num_experts, std::mt19937& random) {
  std::normal_distribution<float> normal;
  const auto style = random() % 4;
  std::vector<float> logits;
  for (int expert = 0; expert < num_experts; ++expert) {
    float logit = normal(random);
    if (style == 1) logit = static_cast<float>(random() % 3);  // many ties
    if (style == 2 && random() % 4 == 0) logit = random() % 2 == 0 ? kNan : -kInfinity;
    if (style == 3) logit *= 60.0F;  // probabilities that vanish
    logits.push_back(logit);
  }
  return logits;
}

TEST(Router, agrees_with_sorting_on_random_options) {
  for (std::uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const RouterOptions options = random_options(random);
    const ReferenceRouter reference(options);
    std::vector<std::vector<float>> tokens;
    for (int token = 0; token < 8; ++token) tokens.push_back(random_logits(options.num_experts, random));
    const auto picks = route(options, tokens);
    for (std::size_t token = 0; token < tokens.size(); ++token) {
      expect_same(picks[token], reference.route(tokens[token]));
      if (HasFatalFailure()) FAIL() << "token " << token;
    }
  }
}

TEST(Router, deepseek_v3_options_agree_with_sorting) {
  const RouterOptions options = deepseek_v3_options();
  const ReferenceRouter reference(options);
  std::mt19937 random(17);
  for (int token = 0; token < 500; ++token) {
    const std::vector<float> logits = random_logits(options.num_experts, random);
    expect_same(route(options, logits), reference.route(logits));
    if (HasFatalFailure()) FAIL() << "token " << token;
  }
}

TEST(Router, softmax_weights_are_probabilities) {
  const auto picks = route(plain_options(4, 4), {0.0F, std::log(2.0F), -kInfinity, std::log(5.0F)});
  EXPECT_EQ(ids_of(picks), (Ids{3, 1, 0, 2}));
  EXPECT_FLOAT_EQ(picks[0].weight, 5.0F / 8);
  EXPECT_FLOAT_EQ(picks[1].weight, 2.0F / 8);
  EXPECT_FLOAT_EQ(picks[2].weight, 1.0F / 8);
  EXPECT_EQ(picks[3].weight, 0.0F);
}

TEST(Router, sigmoid_scores_each_expert_alone) {
  const auto picks = route(plain_options(3, 2, Scoring::kSigmoid), {0.0F, kInfinity, -kInfinity});
  EXPECT_EQ(ids_of(picks), (Ids{1, 0}));
  EXPECT_EQ(picks[0].weight, 1.0F);
  EXPECT_EQ(picks[1].weight, 0.5F);
}

TEST(Router, normalized_and_scaled_weights_sum_to_the_scale) {
  RouterOptions options = deepseek_v3_options();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> logits(256);
  for (float& logit : logits) logit = normal(random);
  float sum = 0.0F;
  for (const Pick& pick : route(options, logits)) sum += pick.weight;
  EXPECT_NEAR(sum, 2.5F, 1e-5F);
}

TEST(Router, bias_chooses_but_does_not_weigh) {
  RouterOptions options = plain_options(3, 1, Scoring::kSigmoid);
  options.correction_bias = {0.0F, 0.0F, 1.0F};
  const auto picks = route(options, {3.0F, 2.0F, 0.0F});
  EXPECT_EQ(ids_of(picks), (Ids{2}));
  EXPECT_EQ(picks[0].weight, 0.5F);
}

TEST(Router, ties_go_to_the_lower_number) {
  EXPECT_EQ(ids_of(route(plain_options(6, 3), {1.0F, 2.0F, 2.0F, 1.0F, 2.0F, 1.0F})), (Ids{1, 2, 4}));
  EXPECT_EQ(ids_of(route(plain_options(6, 4), std::vector<float>(6, 0.0F))), (Ids{0, 1, 2, 3}));
  RouterOptions groups = plain_options(6, 2);
  groups.num_groups = 3;
  groups.top_groups = 1;
  EXPECT_EQ(ids_of(route(groups, {0.0F, 0.0F, 1.0F, 2.0F, 2.0F, 1.0F})), (Ids{3, 2}));
  RouterOptions domains = plain_options(4, 2);
  domains.domain_of_expert = {1, 0, 1, 0};
  domains.max_domains = 1;
  EXPECT_EQ(ids_of(route(domains, std::vector<float>(4, 0.0F))), (Ids{1, 3}));
}

TEST(Router, groups_are_judged_by_their_two_best_experts) {
  RouterOptions options = plain_options(6, 2, Scoring::kSigmoid);
  options.num_groups = 2;
  options.top_groups = 1;
  // The first group holds the best expert and the larger sum of all three, the second the better pair.
  EXPECT_EQ(ids_of(route(options, {3.0F, -2.0F, -2.0F, 1.5F, 1.5F, -9.0F})), (Ids{3, 4}));
  // With one expert per group only that one counts.
  options.num_groups = 6;
  options.top_groups = 2;
  EXPECT_EQ(ids_of(route(options, {3.0F, -2.0F, -2.0F, 1.5F, 1.5F, -9.0F})), (Ids{0, 3}));
}

TEST(Router, domains_bound_what_the_groups_left) {
  RouterOptions options = plain_options(8, 2, Scoring::kSigmoid);
  options.num_groups = 2;
  options.top_groups = 1;
  options.domain_of_expert = {0, 1, 0, 1, 1, 1, 1, 1};
  options.max_domains = 1;
  // Group 0 wins; of its experts domain 0 holds the better pair, whatever domain 1 holds in group 1.
  EXPECT_EQ(ids_of(route(options, {2.0F, 1.9F, 1.0F, 0.0F, 1.5F, 1.5F, 1.5F, 1.5F})), (Ids{0, 2}));
}

TEST(Router, nan_is_never_chosen_and_the_rest_is_filled_with_minus_one) {
  for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
    RouterOptions options = plain_options(4, 4, scoring);
    options.normalize = true;
    const auto picks = route(options, {kNan, 1.0F, kNan, 1.0F});
    EXPECT_EQ(ids_of(picks), (Ids{1, 3, -1, -1}));
    EXPECT_EQ(picks[0].weight, 0.5F);
    EXPECT_EQ(picks[1].weight, 0.5F);
    EXPECT_EQ(picks[2].weight, 0.0F);
    EXPECT_EQ(picks[3].weight, 0.0F);
    EXPECT_EQ(ids_of(route(options, std::vector<float>(4, kNan))), (Ids{-1, -1, -1, -1}));
  }
}

TEST(Router, softmax_without_a_finite_largest_logit_chooses_nothing) {
  RouterOptions options = plain_options(3, 2);
  EXPECT_EQ(ids_of(route(options, std::vector<float>(3, -kInfinity))), (Ids{-1, -1}));
  EXPECT_EQ(ids_of(route(options, {1.0F, kInfinity, 2.0F})), (Ids{-1, -1}));
}

TEST(Router, an_infinite_negative_bias_rules_an_expert_out) {
  RouterOptions options = plain_options(3, 3);
  options.correction_bias = {0.0F, -kInfinity, 0.0F};
  EXPECT_EQ(ids_of(route(options, {1.0F, 5.0F, 2.0F})), (Ids{2, 0, -1}));
}

TEST(Router, weights_that_sum_to_zero_stay_zero) {
  // The softmax of all but expert 0 vanishes, and expert 0 is ruled out.
  RouterOptions options = plain_options(3, 2);
  options.correction_bias = {-kInfinity, 0.0F, 0.0F};
  options.normalize = true;
  options.scale = 2.5F;
  const auto picks = route(options, {0.0F, -200.0F, -300.0F});
  EXPECT_EQ(ids_of(picks), (Ids{1, 2}));
  EXPECT_EQ(picks[0].weight, 0.0F);
  EXPECT_EQ(picks[1].weight, 0.0F);
}

TEST(Router, any_strides_and_both_id_types_give_the_same) {
  const RouterOptions options = deepseek_v3_options();
  const std::int64_t num_tokens = 5;
  std::mt19937 random(4);
  std::vector<std::vector<float>> tokens;
  // Column-major logits; every third id and weight, from the last token backwards.
  std::vector<float> logits(static_cast<std::size_t>(num_tokens) * 256);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    tokens.push_back(random_logits(256, random));
    for (std::int64_t expert = 0; expert < 256; ++expert) logits[expert * num_tokens + token] = tokens.back()[expert];
  }
  const auto expected = route(options, tokens);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(num_tokens) * 8 * 3, 77);
  std::vector<float> weights(ids.size(), 77.0F);
  std::int32_t* last_ids = ids.data() + (num_tokens - 1) * 24;
  float* last_weights = weights.data() + (num_tokens - 1) * 24;
  Router(options).route(ConstTensorView(logits.data(), DataType::kFloat32, {num_tokens, 256}, {1, num_tokens}),
                        TensorView(last_ids, DataType::kInt32, {num_tokens, 8}, {-24, 3}),
                        TensorView(last_weights, DataType::kFloat32, {num_tokens, 8}, {-24, 3}));
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t k = 0; k < 8; ++k) {
      EXPECT_EQ(*(last_ids - token * 24 + k * 3), expected[token][k].expert);
      EXPECT_EQ(*(last_weights - token * 24 + k * 3), expected[token][k].weight);
    }
  }
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 77), num_tokens * 16) << "something between the ids was overwritten";
}

TEST(Router, no_tokens_need_no_memory) {
  RouterOptions options = plain_options(4, 2);
  Router(options).route(ConstTensorView(nullptr, DataType::kFloat32, {0, 4}), TensorView(nullptr, DataType::kInt64, {0, 2}),
                        TensorView(nullptr, DataType::kFloat32, {0, 2}));
}

TEST(Router, the_largest_shape_works) {
  RouterOptions options = plain_options(4096, 32);
  std::vector<float> logits(4096);
  std::iota(logits.begin(), logits.end(), 0.0F);
  Ids expected(32);
  std::iota(expected.rbegin(), expected.rend(), 4096 - 32);
  EXPECT_EQ(ids_of(route(options, logits)), expected);
}

TEST(Router, options_that_cannot_be_are_named) {
  const auto expect = [](const RouterOptions& options, const char* text) {
    expect_error([&] { const Router router(options); }, ErrorCode::kInvalidArgument, text);
  };
  const auto with = [](auto change) {
    RouterOptions options = plain_options(8, 2);
    change(options);
    return options;
  };
  using Options = RouterOptions;
  expect(with([](Options& o) { o.num_experts = 4097; }), "num_experts is 4097, but must be 1 to 4096");
  expect(with([](Options& o) { o.num_experts = 0; }), "num_experts is 0");
  expect(with([](Options& o) { o.top_k = 33; }), "top_k is 33, but must be 1 to 32");
  expect(with([](Options& o) { o.top_k = 0; }), "top_k is 0");
  expect(with([](Options& o) { o.top_k = 9; }), "top_k is 9, but 1 of 1 groups hold only 8 of the 8 experts");
  expect(with([](Options& o) { o.num_groups = 0; }), "num_groups is 0, but must be 1 to 8");
  expect(with([](Options& o) { o.num_groups = 3; }), "8 experts do not divide into 3 equal groups");
  expect(with([](Options& o) { o.num_groups = 4, o.top_groups = 5; }), "top_groups is 5, but must be 1 to 4");
  expect(with([](Options& o) { o.num_groups = 8, o.top_groups = 1; }), "1 of 8 groups hold only 1 of the 8 experts");
  expect(with([](Options& o) { o.correction_bias.resize(7); }), "correction_bias has 7 entries for 8 experts");
  expect(with([](Options& o) { o.correction_bias = {0, 0, 0, kNan, 0, 0, 0, 0}; }), "correction_bias[3] is nan");
  expect(with([](Options& o) { o.correction_bias = {0, 0, 0, 0, kInfinity, 0, 0, 0}; }), "correction_bias[4] is inf");
  expect(with([](Options& o) { o.max_domains = 1; }), "max_domains is 1 without domain_of_expert");
  expect(with([](Options& o) { o.domain_of_expert.assign(8, 0); }), "max_domains (of the given domain_of_expert) is 0");
  expect(with([](Options& o) { o.domain_of_expert.assign(9, 0), o.max_domains = 1; }), "domain_of_expert has 9 entries");
  expect(with([](Options& o) { o.domain_of_expert.assign(8, -1), o.max_domains = 1; }), "domain_of_expert[0] is -1");
  expect(with([](Options& o) { o.domain_of_expert.assign(8, 2048), o.max_domains = 1; }), "must be 0 to 2047");
  expect(with([](Options& o) { o.scale = kNan; }), "scale is nan, but must be finite");
}

TEST(Router, tensors_that_do_not_fit_are_named) {
  const Router router(plain_options(8, 2));
  std::vector<float> memory(256);
  void* data = memory.data();
  const TensorView logits(data, DataType::kFloat32, {3, 8});
  const TensorView ids(data, DataType::kInt64, {3, 2});
  const TensorView weights(data, DataType::kFloat32, {3, 2});
  const auto expect = [&](const TensorView& l, const TensorView& i, const TensorView& w, const char* text) {
    expect_error([&] { router.route(l, i, w); }, ErrorCode::kInvalidArgument, text);
  };
  expect({}, ids, weights, "logits: 0 dimensions given, 2 expected");
  expect(TensorView(nullptr, DataType::kFloat32, {3, 8}), ids, weights, "logits: null pointer");
  expect(TensorView(data, DataType::kFloat32, {3, 9}), ids, weights, "shape [3, 9] given, [3, 8] expected");
  expect(TensorView(data, DataType::kBFloat16, {3, 8}), ids, weights,
         "logits: elements of type bfloat16 given, float32 expected");
  expect(logits, TensorView(data, DataType::kInt64, {4, 2}), weights, "shape [4, 2] given, [3, 2] expected");
  expect(logits, TensorView(data, DataType::kFloat32, {3, 2}), weights,
         "topk_idx: elements of type float32 given, int32 or int64");
  expect(logits, ids, TensorView(data, DataType::kFloat64, {3, 2}), "topk_weights: elements of type float64 given");
}

}  // namespace
}  // namespace tokenyard::test
