#include "cli/demo_reference.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cli/demo_setup.hpp"
#include "cli/plain_rounding.hpp"
#include "cli/random_bits.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {
namespace {

constexpr ModelShape kModel{.hidden = 32, .intermediate = 48, .num_experts = 4, .seed = 3};

TEST(demo_reference, rounding_agrees_with_the_library) {
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    const float value = (unit_float(hash_bits(1, i)) - 0.5F) * std::exp2(static_cast<float>(i % 40) - 20.0F);
    ASSERT_EQ(round_to(value, kBFloat16Format), bfloat16_to_float(float_to_bfloat16(value))) << value;
    ASSERT_EQ(round_to(value, kFloat8E4M3Format), float8_e4m3_to_float(float_to_float8_e4m3(value))) << value;
    if (std::fabs(value) < 65504.0F) {
      ASSERT_EQ(round_to(value, kFloat16Format), float16_to_float(float_to_float16(value))) << value;
    }
  }
}

TEST(demo_reference, fp8_rows_agree_with_the_library) {
  constexpr std::int64_t kHidden = 200;  // the second block of scales is a short one
  std::vector<float> row(kHidden);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = unit_float(hash_bits(2, i)) * 3.0F - 1.5F;
  std::vector<std::byte> quantized(kHidden);
  std::vector<float> scales(2);
  std::vector<float> restored(kHidden);
  const TensorView stored(quantized.data(), DataType::kFloat8E4M3, {1, kHidden});
  quantize(tensor(row.data(), {1, kHidden}), ScaleFormat::kFloat32, stored, tensor(scales.data(), {1, 2}));
  dequantize(stored, tensor(scales.data(), {1, 2}), tensor(restored.data(), {1, kHidden}));
  round_like_float8(row.data(), kHidden);
  EXPECT_EQ(row, restored);
}

TEST(demo_reference, an_expert_gives_the_same_bits_however_many_rows_it_sees) {
  const Expert expert(kModel, 1);
  std::vector<float> rows(static_cast<std::size_t>(kModel.hidden) * 19);
  for (std::int32_t i = 0; i < 19; ++i) write_hidden_state(kModel, i, i - 1, rows.data() + i * kModel.hidden);
  std::vector<float> together(rows.size());
  expert.apply(rows.data(), 19, together.data());
  std::vector<float> alone(rows.size());
  for (std::int64_t i = 0; i < 19; ++i) expert.apply(rows.data() + i * kModel.hidden, 1, alone.data() + i * kModel.hidden);
  EXPECT_EQ(together, alone);
  expert.apply(rows.data(), 19, rows.data());
  EXPECT_EQ(rows, together);
}

TEST(demo_reference, equal_words_differ_by_what_stands_before_them) {
  std::vector<float> first(32);
  std::vector<float> second(32);
  write_hidden_state(kModel, 5, 1, first.data());
  write_hidden_state(kModel, 5, 2, second.data());
  EXPECT_NE(first, second);
  write_hidden_state(kModel, 5, 1, second.data());
  EXPECT_EQ(first, second);
}

// One token that uses experts 3 and 0, on ranks 1 and 0, with a shared expert.
TEST(demo_reference, terms_are_added_rank_by_rank_and_the_shared_expert_last) {
  const std::vector<std::int32_t> tokens{6};
  const std::vector<std::int64_t> ids{3, 0};
  const std::vector<float> weights{0.75F, 0.25F};
  const ReferenceInput input{.model = kModel,
                             .shared_expert = true,
                             .num_ranks = 2,
                             .top_k = 2,
                             .tokens = &tokens,
                             .topk_idx = ids.data(),
                             .topk_weights = weights.data()};
  std::vector<float> row(32);
  write_hidden_state(kModel, 6, -1, row.data());
  std::vector<std::vector<float>> outputs(5, std::vector<float>(32));
  for (int expert : {0, 3, 4}) Expert(kModel, expert).apply(row.data(), 1, outputs[static_cast<std::size_t>(expert)].data());

  int num_steps = 0;
  const ReferenceOutput output = compute_reference(input, [&] { ++num_steps; });
  EXPECT_EQ(num_steps, 4);
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(output.rows[i], (0.25F * outputs[0][i] + 0.75F * outputs[3][i]) + outputs[4][i]);
    EXPECT_EQ(output.magnitudes[i],
              (std::fabs(0.25F * outputs[0][i]) + std::fabs(0.75F * outputs[3][i])) + std::fabs(outputs[4][i]));
  }
}

TEST(demo_reference, errors_beyond_the_bound_are_counted) {
  const ReferenceOutput reference{.rows = {1, 2, 3, 4}, .magnitudes = {1, 2, 3, 4}};
  const std::vector<float> exact{1, 2, 3, 4};
  EXPECT_EQ(compare(exact.data(), reference, 0).num_beyond, 0);
  const std::vector<float> close{1, 2.125F, 3, 4};
  const Comparison comparison = compare(close.data(), reference, 0.125);
  EXPECT_EQ(comparison.num_beyond, 0);
  EXPECT_EQ(comparison.largest_error, 0.125);
  EXPECT_EQ(comparison.bound_there, 0.25);
  EXPECT_EQ(comparison.largest_share, 0.5);
  EXPECT_EQ(compare(close.data(), reference, 0).num_beyond, 1);
  const std::vector<float> broken{1, 2, std::numeric_limits<float>::quiet_NaN(), 5};
  EXPECT_EQ(compare(broken.data(), reference, 0.125).num_beyond, 2);
  EXPECT_TRUE(std::isnan(compare(broken.data(), reference, 0.125).largest_error) ||
              compare(broken.data(), reference, 0.125).largest_error == 1);
}

TEST(demo_reference, the_bound_is_three_roundings_to_bfloat16) {
  ReferenceInput input{.model = kModel, .num_ranks = 4, .top_k = 4};
  EXPECT_EQ(error_factor(input), 0);
  for (Payload payload : {Payload::kBFloat16, Payload::kFloat8}) {
    input.payload = payload;
    EXPECT_NEAR(error_factor(input), 3.0 / 256, 1e-4);
    EXPECT_GT(error_factor(input), 3.0 / 256);
  }
}

TEST(demo_reference, wrong_choices_of_the_gate_are_noticed) {
  const std::vector<std::int32_t> tokens{1, 2, 3};
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
  const Gate gate(kModel);
  for (std::size_t token = 0; token < tokens.size(); ++token) {
    std::vector<float> row(32);
    std::vector<float> logits(4);
    write_hidden_state(kModel, tokens[token], token == 0 ? -1 : tokens[token - 1], row.data());
    gate.write_logits(row.data(), logits.data());
    std::vector<std::int64_t> order{0, 1, 2, 3};
    std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return logits[a] > logits[b]; });
    const double sum = std::exp(logits[order[0]]) + std::exp(logits[order[1]]);
    for (int k = 0; k < 2; ++k) {
      ids.push_back(order[k]);
      weights.push_back(static_cast<float>(std::exp(logits[order[k]]) / sum));
    }
  }
  const ReferenceInput input{
      .model = kModel, .top_k = 2, .tokens = &tokens, .topk_idx = ids.data(), .topk_weights = weights.data()};
  EXPECT_EQ(count_wrong_choices(input), 0);
  weights[1] += 0.01F;
  EXPECT_EQ(count_wrong_choices(input), 1);
  std::swap(ids[2], ids[3]);  // right experts, weights of each other
  EXPECT_EQ(count_wrong_choices(input), 2);
  ids[4] = 6 - ids[4] - ids[5];  // a worse expert, or none at all
  EXPECT_EQ(count_wrong_choices(input), 3);
}

TEST(demo_setup, shards_are_uneven_and_cover_the_text) {
  DemoSetup setup;
  setup.text.tokens.resize(1003);
  setup.num_ranks = 4;
  setup.shape.max_tokens = 100;
  EXPECT_EQ(setup.shard_begin(0), 0);
  EXPECT_EQ(setup.shard_begin(4), 1003);
  for (int rank = 1; rank < 4; ++rank) {
    EXPECT_LT(setup.shard_begin(rank) - setup.shard_begin(rank - 1), setup.shard_begin(rank + 1) - setup.shard_begin(rank));
  }
  EXPECT_EQ(setup.num_batches(), 5);
}

}  // namespace
}  // namespace tokenyard::cli
