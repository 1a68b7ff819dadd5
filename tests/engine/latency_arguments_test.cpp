// Wrong arguments for what latency mode, quantisation and column-major lanes ask for: an error before anything is sent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr int kClumsy = 1;  // the rank that gets it wrong
constexpr std::int64_t kNumTokens = 10;
constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;

struct WrongCombine {
  const char* name;
  Layout layout;
  Mode mode;
  std::function<void(CombineArgs&)> spoil;
  const char* text;
};

std::array<float, 4096>& floats() {
  static std::array<float, 4096> memory{};
  return memory;
}

ConstTensorView weights(std::int64_t num_tokens = kNumTokens, std::int64_t top_k = kTopK) {
  return tensor(std::as_const(floats()).data(), {num_tokens, top_k});
}

const WrongCombine kWrongCombines[] = {
    {"weights_in_throughput_mode", Layout::kExpertContiguous, Mode::kThroughput, [](auto& a) { a.topk_weights = weights(); },
     "topk_weights at combine needs latency mode and an expert layout: give factors instead"},
    {"weights_of_the_compact_layout", Layout::kCompact, Mode::kLatency, [](auto& a) { a.topk_weights = weights(); },
     "topk_weights at combine needs latency mode and an expert layout"},
    {"weights_of_fewer_tokens", Layout::kExpertPadded, Mode::kLatency,
     [](auto& a) { a.topk_weights = weights(kNumTokens - 1); }, "topk_weights: shape [9, 2] given, [10, 2] expected"},
    {"weights_of_another_top_k", Layout::kExpertPadded, Mode::kLatency,
     [](auto& a) { a.topk_weights = weights(kNumTokens, kTopK + 1); }, "topk_weights: shape [10, 3] given, [10, 2] expected"},
    {"weights_of_another_type", Layout::kExpertPadded, Mode::kLatency,
     [](auto& a) { a.topk_weights = {floats().data(), DataType::kInt32, {kNumTokens, kTopK}}; },
     "topk_weights: elements of type int32 given, float32 expected"},
    {"weights_at_null", Layout::kExpertContiguous, Mode::kLatency,
     [](auto& a) { a.topk_weights = {nullptr, DataType::kFloat32, {kNumTokens, kTopK}}; }, "topk_weights: null pointer"},
    {"weights_and_factors", Layout::kExpertContiguous, Mode::kLatency,
     [](auto& a) {
       a.topk_weights = weights();
       a.factors = tensor(std::as_const(floats()).data(), {a.rows.num_elements() / kHidden});
     },
     "give one of factors, use_routing_weights and topk_weights"},
    {"weights_twice", Layout::kExpertContiguous, Mode::kLatency,
     [](auto& a) {
       a.topk_weights = weights();
       a.use_routing_weights = true;
     },
     "give one of factors, use_routing_weights and topk_weights"},
};

class latency_wrong_combine : public testing::TestWithParam<WrongCombine> {};

TEST_P(latency_wrong_combine, is_refused_and_the_right_one_goes_through) {
  const WrongCombine& wrong = GetParam();
  Shape shape = small_shape(kNumRanks, wrong.layout);
  shape.mode = wrong.mode;
  run_small_ranks(
      kNumRanks,
      [&](SmallRank& rank) {
        DispatchArgs dispatch = rank.dispatch(kAmple);
        dispatch.topk_weights = tensor(std::as_const(rank.input.weights).data(), {kNumTokens, kTopK});
        const Received received = rank.plan.dispatch(dispatch);
        SmallOutput output(rank.input);
        const CombineArgs right = combine_of(output, received, kAmple);
        if (rank.rank == kClumsy) {
          CombineArgs args = right;
          wrong.spoil(args);
          expect_error([&] { rank.plan.begin_combine(args); }, kInvalid, wrong.text);
        }
        rank.plan.combine(right);
        EXPECT_NE(output.values[0], -1.0F);
        EXPECT_FALSE(rank.group.status().has_value());
      },
      shape);
}

INSTANTIATE_TEST_SUITE_P(of, latency_wrong_combine, testing::ValuesIn(kWrongCombines),
                         [](const auto& wrong) { return wrong.param.name; });

TEST(latency_arguments, weights_at_combine_of_some_ranks_only_are_a_disagreement) {
  run_small_ranks(
      kNumRanks,
      [](SmallRank& rank) {
        const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
        SmallOutput output(rank.input);
        CombineArgs args = combine_of(output, received, kAmple);
        if (rank.rank == kClumsy) args.topk_weights = weights();
        const auto error = error_of([&] { rank.plan.combine(args); });
        ASSERT_TRUE(error.has_value());
        EXPECT_EQ(error->code(), ErrorCode::kDisagreement) << error->what();
        if (error->failure().reporter == rank.rank) {
          EXPECT_THAT(error->what(), testing::HasSubstr("weights at combine"));
        }
        rank.meet();
        rank.group.recover();
      },
      latency_shape(kNumRanks, Layout::kExpertContiguous));
}

TEST(latency_arguments, a_combine_buffer_belongs_to_a_live_result) {
  run_small_ranks(
      kNumRanks,
      [](SmallRank& rank) {
        Received received = rank.plan.dispatch(rank.dispatch(kAmple));
        const TensorView buffer = received.combine_buffer();
        EXPECT_NE(buffer.data, received.lane(0).data);
        const Routing routing = received.routing();
        received.release();
        expect_error([&] { received.combine_buffer(); }, ErrorCode::kStale, "has been released");
        SmallOutput output(rank.input);
        const CombineArgs args = output.combine(routing, buffer);
        expect_error([&] { rank.plan.combine(args); }, ErrorCode::kStale, "rows lie in slot 0, whose result is no longer live");
      },
      latency_shape(kNumRanks));
}

// A plan that quantises, with column-major scales and one more lane.
Shape quantizing_shape(Mode mode) {
  Shape shape = small_shape(kNumRanks, Layout::kExpertContiguous);
  shape.mode = mode;
  shape.quantization = Quantization{DataType::kBFloat16, ScaleFormat::kFloat32};
  shape.lanes = {{DataType::kFloat8E4M3, 144}, {DataType::kFloat32, 2, true}, {DataType::kByte, 3}};
  return shape;
}

TEST(latency_arguments, quantised_lanes_are_given_as_one_tensor_of_the_wider_type) {
  for (const Mode mode : {Mode::kThroughput, Mode::kLatency}) {
    run_small_ranks(
        kNumRanks,
        [](SmallRank& rank) {
          std::vector<std::uint16_t> values(static_cast<std::size_t>(2 * kNumTokens * 144), 0x3f80);
          std::vector<std::uint8_t> bytes(static_cast<std::size_t>(kNumTokens * 144));
          const ConstTensorView rows(values.data(), DataType::kBFloat16, {kNumTokens, 144});
          const ConstTensorView codes(bytes.data(), DataType::kFloat8E4M3, {kNumTokens, 144});
          const ConstTensorView scales(values.data(), DataType::kFloat32, {kNumTokens, 2});
          const ConstTensorView more(bytes.data(), DataType::kByte, {kNumTokens, 3});
          const ConstTensorView narrow(values.data(), DataType::kBFloat16, {kNumTokens, 128});
          const ConstTensorView apart(values.data(), DataType::kBFloat16, {kNumTokens, 144}, {288, 2});
          DispatchArgs args = rank.dispatch(kAmple);
          const auto refuse = [&](std::vector<ConstTensorView> lanes, const char* text) {
            args.lanes = lanes;
            expect_error([&] { rank.plan.dispatch(args); }, kInvalid, text);
          };
          if (rank.rank == kClumsy) {
            refuse({codes, scales, more}, "3 lanes were given and the plan takes 2");
            refuse({rows}, "1 lanes were given and the plan takes 2");
            refuse({codes, more}, "lane 0: elements of type float8_e4m3 given, bfloat16 expected");
            refuse({narrow, more}, "lane 0: shape [10, 128] given, [10, 144] expected");
            refuse({apart, more}, "lane 0: the elements of a row stand 2 apart");
            refuse({rows, scales}, "lane 1: elements of type float32 given, byte expected");
          }
          const std::vector<ConstTensorView> lanes{rows, more};
          args.lanes = lanes;
          const Received received = rank.plan.dispatch(args);
          EXPECT_EQ(received.lane(0).dtype, DataType::kFloat8E4M3);
          const TensorView columns = received.lane(1);
          EXPECT_EQ(columns.strides[0], 1);
          EXPECT_EQ(columns.strides[1], columns.shape[0]);
          EXPECT_EQ(*reinterpret_cast<float*>(columns.at(0, 1)), 1.0F / 448.0F);
        },
        quantizing_shape(mode));
  }
}

TEST(latency_arguments, outputs_for_columns_must_stand_by_columns) {
  for (const Mode mode : {Mode::kThroughput, Mode::kLatency}) {
    run_small_ranks(
        kNumRanks,
        [](SmallRank& rank) {
          std::vector<std::uint16_t> values(static_cast<std::size_t>(kNumTokens * 144), 0x3f80);
          std::vector<std::byte> memory(1 << 16);
          const std::vector<ConstTensorView> lanes{{values.data(), DataType::kBFloat16, {kNumTokens, 144}},
                                                   {values.data(), DataType::kByte, {kNumTokens, 3}}};
          for (const bool is_right : {false, true}) {
            DispatchArgs args = rank.dispatch(kAmple);
            args.lanes = lanes;
            args.allocate = [&](const RecvSizes& sizes, std::span<TensorView> outputs) {
              const std::int64_t num_rows = sizes.num_tensor_rows + 4;  // more than needed
              std::byte* next = memory.data();
              outputs[0] = {next, DataType::kFloat8E4M3, {num_rows, 144}};
              next += num_rows * 144;
              outputs[1] = {next, DataType::kFloat32, {num_rows, 2}, {1, num_rows}};
              next += num_rows * 8;
              outputs[2] = {next, DataType::kByte, {num_rows, 3}};
              if (rank.rank == kClumsy && !is_right) outputs[1] = {outputs[1].data, DataType::kFloat32, {num_rows, 2}};
            };
            if (rank.rank == kClumsy && !is_right) {
              expect_error([&] { rank.plan.dispatch(args); }, kInvalid,
                           "the output for lane 1 must be a float32 tensor of shape");
            } else {
              rank.plan.dispatch(args);
            }
          }
          EXPECT_FALSE(rank.group.status().has_value());
        },
        quantizing_shape(mode));
  }
}

}  // namespace
}  // namespace tokenyard::test
