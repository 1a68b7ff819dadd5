// The two interfaces side by side: equal input, equal bits.
#include <array>
#include <cstring>
#include <limits>
#include <random>

#include "tests/capi/c_ranks.hpp"
#include "tokenyard/tokenyard.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;

// Equal as tensors: type, shape, strides, and the bytes of every element.
void expect_same(const ConstTensorView& in_cpp, const ty_tensor& in_c, const char* what) {
  ASSERT_EQ(in_c.num_dims, in_cpp.num_dims) << what;
  if (in_cpp.num_dims == 0) return;
  EXPECT_EQ(in_c.dtype, static_cast<ty_data_type>(in_cpp.dtype)) << what;
  std::size_t num_elements = 1;
  for (int dim = 0; dim < in_cpp.num_dims; ++dim) {
    EXPECT_EQ(in_c.shape[dim], in_cpp.shape[static_cast<std::size_t>(dim)]) << what;
    EXPECT_EQ(in_c.strides[dim], in_cpp.strides[static_cast<std::size_t>(dim)]) << what;
    num_elements *= static_cast<std::size_t>(in_cpp.shape[static_cast<std::size_t>(dim)]);
  }
  if (num_elements == 0) return;
  EXPECT_EQ(std::memcmp(in_c.data, in_cpp.data, num_elements * size_of(in_cpp.dtype)), 0) << what;
}

void expect_same_routing(const Routing& in_cpp, const ty_routing* in_c) {
  EXPECT_EQ(ty_routing_num_tokens(in_c), in_cpp.num_tokens());
  EXPECT_EQ(ty_routing_num_recv_rows(in_c), in_cpp.num_recv_rows());
  EXPECT_EQ(ty_routing_num_expanded_rows(in_c), in_cpp.num_expanded_rows());
  EXPECT_EQ(ty_routing_num_dropped(in_c), in_cpp.num_dropped());
  const auto compare = [&](ConstTensorView wanted, ty_status (*accessor)(const ty_routing*, ty_tensor*), const char* what) {
    ty_tensor tensor = TY_TENSOR_INIT;
    expect_ok(accessor(in_c, &tensor));
    expect_same(wanted, tensor, what);
  };
  compare(in_cpp.topk_idx(), ty_routing_topk_idx, "topk_idx");
  compare(in_cpp.topk_weights(), ty_routing_topk_weights, "topk_weights");
  compare(in_cpp.source_token(), ty_routing_source_token, "source_token");
  compare(in_cpp.source_offsets(), ty_routing_source_offsets, "source_offsets");
  compare(in_cpp.expert_counts(), ty_routing_expert_counts, "expert_counts");
  compare(in_cpp.expert_dropped(), ty_routing_expert_dropped, "expert_dropped");
  compare(in_cpp.expert_offsets(), ty_routing_expert_offsets, "expert_offsets");
  compare(in_cpp.expanded_row(), ty_routing_expanded_row, "expanded_row");
  compare(in_cpp.gather_idx(), ty_routing_gather_idx, "gather_idx");
  compare(in_cpp.expanded_source_token(), ty_routing_expanded_source_token, "expanded_source_token");
  compare(in_cpp.expert_source_offsets(), ty_routing_expert_source_offsets, "expert_source_offsets");
  compare(in_cpp.expanded_weights(), ty_routing_expanded_weights, "expanded_weights");
}

TensorView view(const ty_tensor& tensor) {
  return {tensor.data, static_cast<DataType>(tensor.dtype), {tensor.shape[0], tensor.shape[1]}};
}

struct Case {
  ty_mode mode;
  ty_layout layout;
};

// One rank's round trip by both interfaces.
void expect_same_round_trip(int rank, const Group& group, ty_group* c_group, const Case& tried) {
  SCOPED_TRACE(testing::Message() << "mode " << tried.mode << ", layout " << tried.layout << ", rank " << rank);
  const Plan plan = group.plan({.num_experts = kNumExperts,
                                .top_k = kTopK,
                                .max_tokens = kMaxTokens,
                                .lanes = {{DataType::kFloat32, kHidden}},
                                .combine = {},
                                .quantization = {},
                                .mode = static_cast<Mode>(tried.mode),
                                .layout = static_cast<Layout>(tried.layout),
                                .expert_alignment = 1,
                                .expert_capacity = tried.layout == TY_LAYOUT_EXPERT_PADDED ? kMaxTokens : 0});
  const CPlan c_plan = make_small_plan(c_group, tried.mode, tried.layout);
  SmallLayer layer(rank, 4 + rank);
  std::mt19937 random(static_cast<unsigned>(rank));
  std::uniform_real_distribution<float> uniform(-3.0F, 3.0F);
  for (float& value : layer.values) value = uniform(random);
  const bool expanded = tried.layout != TY_LAYOUT_COMPACT;
  std::vector<float> sums(layer.sums.size());
  const std::vector<float> bias(layer.sums.size(), 0.3F);

  const ConstTensorView tokens = view(layer.tokens);
  const Received received =
      plan.dispatch({.lanes = {&tokens, 1}, .topk_idx = view(layer.topk_idx), .topk_weights = view(layer.topk_weights)});
  const TensorView rows = received.lane(0);
  ConstTensorView bias_view = tensor(bias.data(), {layer.num_tokens, kHidden});
  PendingCombine combining = plan.begin_combine({.routing = &received.routing(),
                                                 .rows = rows,
                                                 .use_routing_weights = expanded,
                                                 .returned_weights = {},
                                                 .biases = {bias_view, {}},
                                                 .output = tensor(sums.data(), {layer.num_tokens, kHidden})});
  combining.complete();

  const ty_dispatch_args dispatch = layer.dispatch();
  const auto pending = make<CPending>(ty_plan_begin_dispatch, c_plan.get(), &dispatch);
  const auto c_received = make<CReceived>(ty_pending_complete_dispatch, pending.get());
  const auto c_routing = make<CRouting>(ty_received_get_routing, c_received.get());
  ty_tensor c_rows = TY_TENSOR_INIT;
  expect_ok(ty_received_get_lane(c_received.get(), 0, &c_rows));
  if (tried.layout != TY_LAYOUT_EXPERT_PADDED) expect_same(rows, c_rows, "rows");
  expect_same_routing(received.routing(), c_routing.get());
  ty_recv_sizes sizes = TY_RECV_SIZES_INIT;
  expect_ok(ty_received_get_sizes(c_received.get(), &sizes));
  EXPECT_EQ(sizes.num_recv_rows, received.sizes().num_recv_rows);
  EXPECT_EQ(sizes.num_expanded_rows, received.sizes().num_expanded_rows);
  EXPECT_EQ(sizes.num_tensor_rows, received.sizes().num_tensor_rows);
  EXPECT_EQ(sizes.num_local_experts, received.sizes().num_local_experts);
  EXPECT_EQ(ty_received_slot(c_received.get()), received.slot());
  EXPECT_EQ(ty_received_live(c_received.get()), received.live());
  if (tried.mode == TY_MODE_THROUGHPUT && !expanded) {
    ty_tensor buffer = TY_TENSOR_INIT;
    expect_ok(ty_received_get_combine_buffer(c_received.get(), &buffer));
    expect_same(received.combine_buffer(), buffer, "combine_buffer");
  }

  const ty_tensor c_bias =
      ty_tensor_of_rows(const_cast<float*>(bias.data()), TY_FLOAT32, layer.num_tokens, kHidden);  // only read
  ty_combine_args combine = layer.combine(c_routing.get(), &c_rows);
  combine.use_routing_weights = expanded ? 1 : 0;
  combine.biases = &c_bias;
  combine.num_biases = 1;
  expect_ok(ty_plan_combine(c_plan.get(), &combine));
  EXPECT_EQ(std::memcmp(layer.sums.data(), sums.data(), sums.size() * sizeof(float)), 0);
  expect_ok(ty_group_barrier(c_group));
}

TEST(both_interfaces, give_the_same_bits) {
  const std::vector<std::shared_ptr<Exchange>> exchanges = make_thread_exchange(kNumRanks);
  run_c_ranks(kNumRanks, [&](int rank, ty_group* c_group) {
    const Group group = Group::create(exchanges[static_cast<std::size_t>(rank)]);
    for (const ty_mode mode : {TY_MODE_THROUGHPUT, TY_MODE_LATENCY}) {
      for (const ty_layout layout : {TY_LAYOUT_COMPACT, TY_LAYOUT_EXPERT_CONTIGUOUS, TY_LAYOUT_EXPERT_PADDED}) {
        expect_same_round_trip(rank, group, c_group, {mode, layout});
      }
    }
    group.barrier();
  });
}

// All that a combine and a cached dispatch can be given, and where it arrives.
TEST(both_interfaces, know_the_same_arguments) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group);
    SmallLayer layer(rank);
    std::vector<float> memory(2 * kMaxTokens * kHidden);
    const ty_tensor place = ty_tensor_of_rows(memory.data(), TY_FLOAT32, 2 * kMaxTokens, kHidden);
    ty_dispatch_args dispatch = layer.dispatch();
    dispatch.outputs = &place;
    dispatch.num_outputs = 1;
    dispatch.slot = 1;
    dispatch.timeout_ms = 20'000;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &dispatch);
    EXPECT_EQ(ty_received_slot(received.get()), 1);
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    const std::int64_t num_rows = ty_routing_num_recv_rows(routing.get());

    const ty_tensor rows = ty_tensor_of_rows(memory.data(), TY_FLOAT32, num_rows, kHidden);
    std::vector<float> factors(static_cast<std::size_t>(num_rows), 2.0F);
    ty_tensor factor_view = TY_TENSOR_INIT;
    ty_tensor_set_dense(&factor_view, factors.data(), TY_FLOAT32, 1, &num_rows);
    std::vector<float> carried(static_cast<std::size_t>(num_rows) * kTopK, 0.5F);
    std::vector<float> returned(layer.ids.size(), -1.0F);
    const ty_tensor carried_view = ty_tensor_of_rows(carried.data(), TY_FLOAT32, num_rows, kTopK);
    const ty_tensor returned_view = ty_tensor_of_rows(returned.data(), TY_FLOAT32, layer.num_tokens, kTopK);
    std::vector<float> ones(layer.sums.size(), 1.0F);
    const ty_tensor one = ty_tensor_of_rows(ones.data(), TY_FLOAT32, layer.num_tokens, kHidden);
    const std::array<ty_tensor, 2> biases{one, one};
    ty_combine_args combine = layer.combine(routing.get(), &rows);
    combine.factors = &factor_view;
    combine.carried_weights = &carried_view;
    combine.returned_weights = &returned_view;
    combine.biases = biases.data();
    combine.num_biases = 2;
    combine.slot = 1;
    combine.timeout_ms = 20'000;
    expect_ok(ty_plan_combine(plan.get(), &combine));
    for (int token = 0; token < layer.num_tokens; ++token) {
      const auto first = static_cast<std::size_t>(token) * kTopK;
      const bool two_ranks = layer.ids[first] / 2 != layer.ids[first + 1] / 2;
      const float value = layer.values[static_cast<std::size_t>(token) * kHidden];
      EXPECT_EQ(layer.sums[static_cast<std::size_t>(token) * kHidden], (two_ranks ? 4.0F : 2.0F) * value + 2.0F);
      EXPECT_EQ(returned[first], 0.5F);
    }
    combine.num_biases = 3;
    expect_status(ty_plan_combine(plan.get(), &combine), TY_INVALID_ARGUMENT, "args->num_biases is 3");

    ty_dispatch_args cached = TY_DISPATCH_ARGS_INIT;
    cached.lanes = &layer.tokens;
    cached.num_lanes = 1;
    cached.routing = routing.get();
    const auto again = make<CReceived>(ty_plan_dispatch, plan.get(), &cached);
    ty_tensor cached_rows = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(again.get(), 0, &cached_rows));
    EXPECT_EQ(std::memcmp(cached_rows.data, memory.data(), static_cast<std::size_t>(num_rows) * kHidden * sizeof(float)), 0);
    expect_ok(ty_group_barrier(group));
  });
}

TEST(both_interfaces, take_weights_at_combine) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_LATENCY, TY_LAYOUT_EXPERT_CONTIGUOUS);
    SmallLayer layer(rank);
    ty_dispatch_args dispatch = layer.dispatch();
    dispatch.topk_weights = nullptr;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &dispatch);
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    ty_tensor rows = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(received.get(), 0, &rows));
    ty_combine_args combine = layer.combine(routing.get(), &rows);
    combine.topk_weights = &layer.topk_weights;
    expect_ok(ty_plan_combine(plan.get(), &combine));
    for (int token = 0; token < layer.num_tokens; ++token) {
      const auto first = static_cast<std::size_t>(token) * kTopK;
      const float value = layer.values[static_cast<std::size_t>(token) * kHidden];
      const float wanted = layer.factors[first] * value + layer.factors[first + 1] * value;
      EXPECT_NEAR(layer.sums[static_cast<std::size_t>(token) * kHidden], wanted, 1e-4F);
    }
    expect_ok(ty_group_barrier(group));
  });
}

// FP8 rows and their scales, quantised on the way, against ty_quantize.
TEST(both_interfaces, quantise_on_the_way) {
  constexpr int kWide = 256;
  run_c_ranks(2, [](int rank, ty_group* group) {
    std::array<ty_lane, 2> lanes{ty_lane TY_LANE_INIT, ty_lane TY_LANE_INIT};
    lanes[0].dtype = TY_FLOAT8_E4M3;
    lanes[0].num_elements = kWide;
    lanes[1].dtype = TY_UE8M0;
    lanes[1].num_elements = kWide / TY_SCALE_BLOCK;
    ty_lane combine_lane = TY_LANE_INIT;
    combine_lane.num_elements = kWide;
    ty_quantization quantization = TY_QUANTIZATION_INIT;
    quantization.from = TY_FLOAT32;
    quantization.format = TY_SCALE_UE8M0;
    ty_shape shape = small_shape(lanes.data());
    shape.num_lanes = 2;
    shape.combine = &combine_lane;
    shape.quantization = &quantization;
    shape.combine_as_float8 = 1;
    const auto plan = make<CPlan>(ty_plan_create, group, &shape);

    SmallLayer layer(rank, 1);
    layer.ids = {0, 3};
    std::vector<float> values(kWide);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 100.0F * static_cast<float>(rank);
    const ty_tensor tokens = ty_tensor_of_rows(values.data(), TY_FLOAT32, 1, kWide);
    ty_dispatch_args dispatch = layer.dispatch();
    dispatch.lanes = &tokens;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &dispatch);
    ty_tensor codes = TY_TENSOR_INIT;
    ty_tensor scales = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(received.get(), 0, &codes));
    expect_ok(ty_received_get_lane(received.get(), 1, &scales));

    std::vector<std::uint8_t> own_codes(kWide);
    std::vector<std::uint8_t> own_scales(2);
    const ty_tensor own_code_view = ty_tensor_of_rows(own_codes.data(), TY_FLOAT8_E4M3, 1, kWide);
    const ty_tensor own_scale_view = ty_tensor_of_rows(own_scales.data(), TY_UE8M0, 1, 2);
    expect_ok(ty_quantize(&tokens, TY_SCALE_UE8M0, &own_code_view, &own_scale_view));
    EXPECT_EQ(std::memcmp(static_cast<const std::uint8_t*>(codes.data) + rank * codes.strides[0], own_codes.data(), kWide), 0);
    EXPECT_EQ(std::memcmp(static_cast<const std::uint8_t*>(scales.data) + rank * scales.strides[0], own_scales.data(), 2), 0);
    std::vector<float> back(kWide);
    const ty_tensor back_view = ty_tensor_of_rows(back.data(), TY_FLOAT32, 1, kWide);
    expect_ok(ty_dequantize(&own_code_view, &own_scale_view, &back_view));
    for (std::size_t i = 0; i < back.size(); ++i) EXPECT_NEAR(back[i], values[i], 0.07F * std::abs(values[i]) + 0.1F);
    expect_status(ty_quantize(&tokens, 3, &own_code_view, &own_scale_view), TY_INVALID_ARGUMENT, "format is 3");
    expect_status(ty_dequantize(&own_code_view, nullptr, &back_view), TY_INVALID_ARGUMENT, "scales");
    expect_ok(ty_group_barrier(group));
  });
}

TEST(both_interfaces, choose_the_same_experts) {
  constexpr int kTokens = 9;
  constexpr int kExperts = 8;
  std::array<float, kTokens * kExperts> logits{};
  std::array<float, kExperts> bias{};
  const std::array<std::int32_t, kExperts> domains{0, 0, 1, 1, 2, 2, 3, 3};
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i * i));
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = 0.05F * static_cast<float>(i);

  RouterOptions options;
  options.num_experts = kExperts;
  options.top_k = 3;
  options.scoring = Scoring::kSigmoid;
  options.correction_bias.assign(bias.begin(), bias.end());
  options.num_groups = 4;
  options.top_groups = 3;
  options.domain_of_expert.assign(domains.begin(), domains.end());
  options.max_domains = 2;
  options.normalize = true;
  options.scale = 2.5F;
  std::array<std::int64_t, kTokens * 3> idx{};
  std::array<float, kTokens * 3> weights{};
  Router(options).route(tensor(logits.data(), {kTokens, kExperts}), tensor(idx.data(), {kTokens, 3}),
                        tensor(weights.data(), {kTokens, 3}));

  ty_router_options c_options = TY_ROUTER_OPTIONS_INIT;
  c_options.num_experts = kExperts;
  c_options.top_k = 3;
  c_options.scoring = TY_SCORING_SIGMOID;
  c_options.correction_bias = bias.data();
  c_options.num_groups = 4;
  c_options.top_groups = 3;
  c_options.domain_of_expert = domains.data();
  c_options.max_domains = 2;
  c_options.normalize = 1;
  c_options.scale = 2.5F;
  const auto router = make<CRouter>(ty_router_create, &c_options);
  std::array<std::int64_t, kTokens * 3> c_idx{};
  std::array<float, kTokens * 3> c_weights{};
  const ty_tensor c_logits = ty_tensor_of_rows(logits.data(), TY_FLOAT32, kTokens, kExperts);
  const ty_tensor c_idx_view = ty_tensor_of_rows(c_idx.data(), TY_INT64, kTokens, 3);
  const ty_tensor c_weights_view = ty_tensor_of_rows(c_weights.data(), TY_FLOAT32, kTokens, 3);
  expect_ok(ty_router_route(router.get(), &c_logits, &c_idx_view, &c_weights_view));
  EXPECT_EQ(c_idx, idx);
  EXPECT_EQ(std::memcmp(c_weights.data(), weights.data(), sizeof(weights)), 0);

  ty_router* refused = nullptr;
  c_options.num_experts = 1 << 30;
  expect_status(ty_router_create(&c_options, &refused), TY_INVALID_ARGUMENT, "options->num_experts is 1073741824");
  c_options.num_experts = kExperts;
  c_options.scoring = 2;
  expect_status(ty_router_create(&c_options, &refused), TY_INVALID_ARGUMENT, "options->scoring is 2");
  expect_status(ty_router_route(router.get(), &c_logits, nullptr, &c_weights_view), TY_INVALID_ARGUMENT, "topk_idx");
}

TEST(both_interfaces, convert_numbers_alike) {
  for (const float value : {0.0F, 1.0F, -2.5F, 448.0F, 1e-9F, 3e38F, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(ty_float_to_bfloat16(value), float_to_bfloat16(value));
    EXPECT_EQ(ty_float_to_float16(value), float_to_float16(value));
    EXPECT_EQ(ty_float_to_float8_e4m3(value), float_to_float8_e4m3(value));
  }
  const auto expect_bits = [](float in_c, float in_cpp) { EXPECT_EQ(std::memcmp(&in_c, &in_cpp, sizeof(in_c)), 0); };
  for (unsigned bits = 0; bits < 256; ++bits) {
    const auto byte = static_cast<std::uint8_t>(bits);
    const auto word = static_cast<std::uint16_t>(bits * 257);
    expect_bits(ty_float8_e4m3_to_float(byte), float8_e4m3_to_float(byte));
    expect_bits(ty_ue8m0_to_float(byte), ue8m0_to_float(byte));
    expect_bits(ty_bfloat16_to_float(word), bfloat16_to_float(word));
    expect_bits(ty_float16_to_float(word), float16_to_float(word));
  }
}

}  // namespace
}  // namespace tokenyard::test
