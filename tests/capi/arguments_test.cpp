// Every field of the larger structs arrives where it belongs.
#include <gtest/gtest.h>

#include <array>

#include "capi/call_args.hpp"
#include "capi/handles.hpp"
#include "capi/shape.hpp"
#include "tests/base/expect_error.hpp"
#include "tokenyard.h"

namespace tokenyard::capi {
namespace {

using std::chrono_literals::operator""ms;

TEST(arguments, of_a_shape_all_arrive) {
  std::array<ty_lane, 2> lanes{ty_lane TY_LANE_INIT, ty_lane TY_LANE_INIT};
  lanes[0].dtype = TY_FLOAT8_E4M3;
  lanes[0].num_elements = 256;
  lanes[1].dtype = TY_FLOAT32;
  lanes[1].num_elements = 2;
  lanes[1].column_major = 1;
  ty_lane combine = TY_LANE_INIT;
  combine.dtype = TY_FLOAT16;
  combine.num_elements = 512;
  ty_quantization quantization = TY_QUANTIZATION_INIT;
  quantization.from = TY_FLOAT16;
  quantization.format = TY_SCALE_FLOAT32_POWER_OF_2;
  const std::array<std::int32_t, 5> experts{3, 1, 0, 2, 1};
  const std::array<std::int32_t, 3> num_local_experts{2, 0, 3};
  ty_placement placement = TY_PLACEMENT_INIT;
  placement.experts = experts.data();
  placement.num_local_experts = num_local_experts.data();
  placement.num_entries = 5;
  placement.num_ranks = 3;
  ty_shape shape = TY_SHAPE_INIT;
  shape.max_tokens = 11;
  shape.expert_capacity = 12;
  shape.recv_capacity = 13;
  shape.lanes = lanes.data();
  shape.num_lanes = 2;
  shape.combine = &combine;
  shape.quantization = &quantization;
  shape.placement = &placement;
  shape.num_experts = 4;
  shape.top_k = 3;
  shape.mode = TY_MODE_LATENCY;
  shape.layout = TY_LAYOUT_EXPERT_PADDED;
  shape.overflow = TY_OVERFLOW_DROP;
  shape.combine_as_float8 = 1;
  shape.mask_late_ranks = 1;
  shape.expert_alignment = 14;
  shape.max_local_experts = 15;

  Shape wanted;
  wanted.num_experts = 4;
  wanted.top_k = 3;
  wanted.max_tokens = 11;
  wanted.lanes = {{DataType::kFloat8E4M3, 256}, {DataType::kFloat32, 2, true}};
  wanted.combine = Lane{DataType::kFloat16, 512};
  wanted.quantization = Quantization{DataType::kFloat16, ScaleFormat::kFloat32PowerOf2};
  wanted.combine_as_float8 = true;
  wanted.mode = Mode::kLatency;
  wanted.mask_late_ranks = true;
  wanted.layout = Layout::kExpertPadded;
  wanted.expert_alignment = 14;
  wanted.expert_capacity = 12;
  wanted.recv_capacity = 13;
  wanted.overflow = Overflow::kDrop;
  wanted.placement.experts_of = {{3, 1}, {}, {0, 2, 1}};
  wanted.max_local_experts = 15;
  EXPECT_EQ(read_shape(&shape), wanted);
}

void expect_same(const Execution& execution, const Execution& wanted) {
  EXPECT_EQ(execution.stream, wanted.stream);
  EXPECT_EQ(execution.wait_for, wanted.wait_for);
  EXPECT_EQ(execution.record, wanted.record);
  EXPECT_EQ(execution.num_sms, wanted.num_sms);
  EXPECT_EQ(execution.copies, wanted.copies);
}

TEST(arguments, that_are_left_out_have_the_defaults_of_both_interfaces) {
  const ty_shape shape = TY_SHAPE_INIT;
  EXPECT_EQ(read_shape(&shape), Shape());
  const ty_dispatch_args dispatch = TY_DISPATCH_ARGS_INIT;
  const DispatchArguments arguments(&dispatch);
  EXPECT_TRUE(arguments.args().lanes.empty());
  EXPECT_TRUE(arguments.args().outputs.empty());
  EXPECT_FALSE(arguments.args().topk_idx);
  EXPECT_FALSE(arguments.args().topk_weights);
  EXPECT_EQ(arguments.args().routing, nullptr);
  EXPECT_FALSE(arguments.args().allocate);
  EXPECT_EQ(arguments.args().slot, DispatchArgs().slot);
  EXPECT_FALSE(arguments.args().timeout);
  expect_same(arguments.args().execution, Execution());
}

// Pointers that are told apart, and never used.
struct Streams {
  std::array<std::byte, 3> bytes{};
  ty_execution execution{sizeof(ty_execution), &bytes[0], &bytes[1], &bytes[2], 12, TY_COPIES_PLAIN};
  Execution wanted{reinterpret_cast<Stream>(&bytes[0]), reinterpret_cast<Event>(&bytes[1]), reinterpret_cast<Event>(&bytes[2]),
                   12, Copies::kPlain};
};

// A tensor that is known by its pointer and first extent.
struct Marked {
  explicit Marked(std::int64_t mark) : tensor(ty_tensor_of_rows(this, TY_FLOAT32, mark, 16)) {}
  ty_tensor tensor;
};

template <class Void>
void expect_mark(const BasicTensorView<Void>& view, const Marked& marked) {
  EXPECT_EQ(view.data, marked.tensor.data);
  EXPECT_EQ(view.shape[0], marked.tensor.shape[0]);
  EXPECT_EQ(view.strides[0], 16);
  EXPECT_EQ(view.dtype, DataType::kFloat32);
}

TEST(arguments, of_a_dispatch_all_arrive) {
  const Marked lane(1), topk_idx(2), topk_weights(3), output(4);
  const ty_routing routing{Routing()};
  ty_dispatch_args given = TY_DISPATCH_ARGS_INIT;
  given.lanes = &lane.tensor;
  given.num_lanes = 1;
  given.topk_idx = &topk_idx.tensor;
  given.topk_weights = &topk_weights.tensor;
  given.routing = &routing;
  given.outputs = &output.tensor;
  given.num_outputs = 1;
  given.slot = 1;
  given.timeout_ms = 77;
  const Streams streams;
  given.execution = &streams.execution;
  const DispatchArguments arguments(&given);
  const DispatchArgs& args = arguments.args();
  ASSERT_EQ(args.lanes.size(), 1U);
  ASSERT_EQ(args.outputs.size(), 1U);
  expect_mark(args.lanes[0], lane);
  expect_mark(args.topk_idx, topk_idx);
  expect_mark(args.topk_weights, topk_weights);
  expect_mark(args.outputs[0], output);
  EXPECT_EQ(args.routing, &routing.routing);
  EXPECT_EQ(args.slot, 1);
  EXPECT_EQ(args.timeout, 77ms);
  expect_same(args.execution, streams.wanted);
}

TEST(arguments, lists_that_no_plan_takes_are_not_read) {
  const Marked only(1);
  ty_dispatch_args given = TY_DISPATCH_ARGS_INIT;
  given.lanes = given.outputs = &only.tensor;
  given.num_lanes = 1 << 30;
  test::expect_error([&] { const DispatchArguments arguments(&given); }, ErrorCode::kInvalidArgument,
                     "args->num_lanes is 1073741824");
  given.num_lanes = 1;
  given.num_outputs = 1 << 30;
  test::expect_error([&] { const DispatchArguments arguments(&given); }, ErrorCode::kInvalidArgument, "args->num_outputs is");
}

TEST(arguments, of_a_combine_all_arrive) {
  const Marked rows(1), factors(2), topk_weights(3), carried_weights(4), returned_weights(5), output(6);
  const std::array<ty_tensor, 2> biases{Marked(7).tensor, Marked(8).tensor};
  const ty_routing routing{Routing()};
  ty_combine_args given = TY_COMBINE_ARGS_INIT;
  given.routing = &routing;
  given.rows = &rows.tensor;
  given.factors = &factors.tensor;
  given.topk_weights = &topk_weights.tensor;
  given.carried_weights = &carried_weights.tensor;
  given.returned_weights = &returned_weights.tensor;
  given.biases = biases.data();
  given.num_biases = 2;
  given.output = &output.tensor;
  given.use_routing_weights = 1;
  given.slot = 0;
  given.timeout_ms = 78;
  const Streams streams;
  given.execution = &streams.execution;
  const CombineArgs args = read_combine_args(&given);
  EXPECT_EQ(args.routing, &routing.routing);
  expect_mark(args.rows, rows);
  expect_mark(args.factors, factors);
  expect_mark(args.topk_weights, topk_weights);
  expect_mark(args.carried_weights, carried_weights);
  expect_mark(args.returned_weights, returned_weights);
  EXPECT_EQ(args.biases[0].shape[0], 7);
  EXPECT_EQ(args.biases[1].shape[0], 8);
  expect_mark(args.output, output);
  EXPECT_TRUE(args.use_routing_weights);
  EXPECT_EQ(args.slot, 0);
  EXPECT_EQ(args.timeout, 78ms);
  expect_same(args.execution, streams.wanted);
}

TEST(arguments, of_an_execution_are_checked) {
  ty_execution given = TY_EXECUTION_INIT;
  given.copies = 4;
  test::expect_error([&] { read_execution(&given, "args->execution"); }, ErrorCode::kInvalidArgument, "execution->copies is 4");
  given.struct_size = 0;
  test::expect_error([&] { read_execution(&given, "args->execution"); }, ErrorCode::kInvalidArgument,
                     "args->execution: struct_size is 0");
}

}  // namespace
}  // namespace tokenyard::capi
