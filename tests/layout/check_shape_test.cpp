// Limits of a shape, each at, below and above.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "layout/plan_layout.hpp"
#include "tests/base/expect_error.hpp"

namespace tokenyard::test {
namespace {

Shape valid_shape() {
  Shape shape;
  shape.num_experts = 8;
  shape.top_k = 2;
  shape.max_tokens = 16;
  shape.lanes = {{DataType::kBFloat16, 64}};
  return shape;
}

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr int kMaxInt = std::numeric_limits<int>::max();

struct Limit {
  const char* name;
  std::function<void(Shape&)> change;
  const char* complaint;  // part of the error's text, nullptr for a shape that can be
  int num_ranks = 4;
};

void PrintTo(const Limit& limit, std::ostream* stream) { *stream << limit.name; }

class shape_limit : public testing::TestWithParam<Limit> {};

TEST_P(shape_limit, is_kept) {
  const Limit& limit = GetParam();
  Shape shape = valid_shape();
  limit.change(shape);
  if (limit.complaint == nullptr) {
    EXPECT_GT(plan_sizes(shape, limit.num_ranks).window_bytes, 0);
  } else {
    expect_error([&] { plan_sizes(shape, limit.num_ranks); }, ErrorCode::kInvalidArgument, limit.complaint);
  }
}

void set_padded(Shape& shape, std::int64_t capacity) {
  shape.layout = Layout::kExpertPadded;
  shape.expert_capacity = capacity;
}

void set_contiguous(Shape& shape, int alignment) {
  shape.layout = Layout::kExpertContiguous;
  shape.expert_alignment = alignment;
}

void set_quantized(Shape& shape, DataType scale = DataType::kFloat32, std::int64_t num_scales = 2) {
  shape.quantization = Quantization{};
  if (scale == DataType::kUE8M0) shape.quantization->format = ScaleFormat::kUE8M0;
  shape.lanes = {{DataType::kFloat8E4M3, 160}, {scale, num_scales}};
}

const Limit kLimits[] = {
    {"valid", [](Shape&) {}, nullptr},
    {"ranks_0", [](Shape&) {}, "the number of ranks is 0: it must be from 1 to 2048", 0},
    {"ranks_negative", [](Shape&) {}, "the number of ranks is -3", -3},
    {"ranks_1", [](Shape&) {}, nullptr, 1},
    {"ranks_2048", [](Shape&) {}, nullptr, 2048},
    {"ranks_2049", [](Shape&) {}, "the number of ranks is 2049: it must be from 1 to 2048", 2049},

    {"experts_0", [](Shape& s) { s.num_experts = 0; }, "num_experts is 0: it must be from 1 to 4096"},
    {"experts_negative", [](Shape& s) { s.num_experts = -1; }, "num_experts is -1"},
    {"experts_1", [](Shape& s) { s.num_experts = 1; }, nullptr},
    {"experts_4096", [](Shape& s) { s.num_experts = 4096; }, nullptr},
    {"experts_4097", [](Shape& s) { s.num_experts = 4097; }, "num_experts is 4097"},
    {"experts_most", [](Shape& s) { s.num_experts = kMaxInt; }, "num_experts is 2147483647"},

    {"top_k_0", [](Shape& s) { s.top_k = 0; }, "top_k is 0: it must be from 1 to 32"},
    {"top_k_1", [](Shape& s) { s.top_k = 1; }, nullptr},
    {"top_k_32", [](Shape& s) { s.top_k = 32; }, nullptr},
    {"top_k_33", [](Shape& s) { s.top_k = 33; }, "top_k is 33"},

    {"max_tokens_0", [](Shape& s) { s.max_tokens = 0; }, "is 0: it must be from 1 to 536870911"},
    {"max_tokens_1", [](Shape& s) { s.max_tokens = 1; }, nullptr},
    {"max_tokens_most", [](Shape& s) { s.max_tokens = ((std::int64_t{1} << 31) - 1) / 4; }, nullptr},
    {"max_tokens_more", [](Shape& s) { s.max_tokens = ((std::int64_t{1} << 31) - 1) / 4 + 1; }, "max_tokens"},
    {"max_tokens_times_top_k",
     [](Shape& s) {
       s.top_k = 8;
       s.max_tokens = std::int64_t{1} << 28;
     },
     "times top_k, it must stay below 2^31) is 268435456: it must be from 1 to 268435455"},
    {"max_tokens_huge", [](Shape& s) { s.max_tokens = kMax; }, "max_tokens"},
    {"max_tokens_negative", [](Shape& s) { s.max_tokens = -kMax; }, "max_tokens"},

    {"lanes_0", [](Shape& s) { s.lanes.clear(); }, "the number of lanes is 0: it must be from 1 to 4"},
    {"lanes_4", [](Shape& s) { s.lanes.resize(4, {DataType::kFloat32, 3}); }, nullptr},
    {"lanes_5", [](Shape& s) { s.lanes.resize(5, {DataType::kFloat32, 3}); }, "the number of lanes is 5"},
    {"lane_0_empty", [](Shape& s) { s.lanes[0].num_elements = 0; }, "lane 0 has 0 bfloat16 elements per row: give from 1 to"},
    {"lane_0_negative", [](Shape& s) { s.lanes[0].num_elements = -8; }, "lane 0 has -8 bfloat16 elements per row"},
    {"lane_0_16_bytes", [](Shape& s) { s.lanes[0].num_elements = 8; }, nullptr},
    {"lane_0_14_bytes", [](Shape& s) { s.lanes[0].num_elements = 7; },
     "lane 0 has rows of 14 bytes (7 x bfloat16), which is not"},
    {"lane_0_18_bytes", [](Shape& s) { s.lanes[0].num_elements = 9; }, "not a multiple of 16: pad the hidden size"},
    {"lane_0_opaque", [](Shape& s) { s.lanes[0] = {DataType::kByte, 16}; }, nullptr},
    {"lane_0_opaque_17_bytes", [](Shape& s) { s.lanes[0] = {DataType::kByte, 17}; }, "lane 0 has rows of 17 bytes (17 x byte)"},
    {"lane_1_of_any_width", [](Shape& s) { s.lanes.push_back({DataType::kUE8M0, 5}); }, nullptr},
    {"lane_1_empty", [](Shape& s) { s.lanes.push_back({DataType::kFloat32, 0}); }, "lane 1 has 0 float32 elements per row"},
    {"lane_0_widest", [](Shape& s) { s.lanes[0].num_elements = 1 << 27; }, nullptr},
    {"lane_0_wider", [](Shape& s) { s.lanes[0].num_elements = (1 << 27) + 8; }, "rows of at most 268435456 bytes"},
    {"lane_0_so_wide_that_sizes_wrap_around", [](Shape& s) { s.lanes[0].num_elements = std::int64_t{1} << 60; },
     "give from 1 to"},
    {"lane_1_so_wide_that_sizes_wrap_around", [](Shape& s) { s.lanes.push_back({DataType::kInt64, kMax}); }, "lane 1 has"},
    {"lane_of_no_type", [](Shape& s) { s.lanes[0].dtype = static_cast<DataType>(77); }, "elements of type 77, which is none"},

    {"combine_float64", [](Shape& s) { s.combine = Lane{DataType::kFloat64, 2}; }, nullptr},
    {"combine_of_another_width", [](Shape& s) { s.combine = Lane{DataType::kFloat32, 4096}; }, nullptr},
    {"combine_bytes", [](Shape& s) { s.combine = Lane{DataType::kByte, 16}; }, "combine sums float16, bfloat16, float32 or"},
    {"combine_int32", [](Shape& s) { s.combine = Lane{DataType::kInt32, 16}; }, "rows, not int32"},
    {"combine_fp8", [](Shape& s) { s.combine = Lane{DataType::kFloat8E4M3, 16}; }, "rows, not float8_e4m3"},
    {"combine_empty", [](Shape& s) { s.combine = Lane{DataType::kFloat32, 0}; }, "combine has 0 float32 elements"},
    {"combine_12_bytes", [](Shape& s) { s.combine = Lane{DataType::kFloat32, 3}; },
     "combine has rows of 12 bytes (3 x float32)"},
    {"combine_too_wide", [](Shape& s) { s.combine = Lane{DataType::kFloat64, kMax}; }, "combine has 9223372036854775807"},

    {"layout_unknown", [](Shape& s) { s.layout = static_cast<Layout>(3); }, "layout (an enumerator's number) is 3"},
    {"overflow_unknown", [](Shape& s) { s.overflow = static_cast<Overflow>(2); }, "overflow (an enumerator's number) is 2"},

    {"alignment_0", [](Shape& s) { set_contiguous(s, 0); }, "expert_alignment is 0: it must be from 1 to 65536"},
    {"alignment_negative", [](Shape& s) { set_contiguous(s, -128); }, "expert_alignment is -128"},
    {"alignment_1", [](Shape& s) { set_contiguous(s, 1); }, nullptr},
    {"alignment_65536", [](Shape& s) { set_contiguous(s, 65536); }, nullptr},
    {"alignment_65537", [](Shape& s) { set_contiguous(s, 65537); }, "expert_alignment is 65537"},
    {"alignment_without_use", [](Shape& s) { s.expert_alignment = 0; }, nullptr},

    {"capacity_0", [](Shape& s) { set_padded(s, 0); },
     "expert_capacity (rows per expert, needed by the expert-padded layout) is 0"},
    {"capacity_negative", [](Shape& s) { set_padded(s, -1); }, "needed by the expert-padded layout) is -1"},
    {"capacity_1", [](Shape& s) { set_padded(s, 1); }, nullptr},
    {"capacity_of_all_pairs", [](Shape& s) { set_padded(s, 4 * 16 * 2); }, nullptr},
    {"capacity_beyond_all_pairs", [](Shape& s) { set_padded(s, 4 * 16 * 2 + 1); }, "is 129: it must be from 1 to 128"},
    {"capacity_without_use", [](Shape& s) { s.expert_capacity = -1; }, nullptr},
    {"capacity_beyond_all_addresses",
     [](Shape& s) {
       s.num_experts = 4096;
       s.max_tokens = 1 << 28;
       s.top_k = 4;
       s.lanes[0].num_elements = 1 << 27;
       set_padded(s, std::int64_t{1} << 32);
     },
     "the expert-padded layout could need 4398046511104 rows of 268435456 bytes: lower expert_capacity"},

    {"recv_capacity_negative", [](Shape& s) { s.recv_capacity = -1; }, "recv_capacity is -1: it must be from 0 to 64"},
    {"recv_capacity_1", [](Shape& s) { s.recv_capacity = 1; }, nullptr},
    {"recv_capacity_64", [](Shape& s) { s.recv_capacity = 64; }, nullptr},
    {"recv_capacity_65", [](Shape& s) { s.recv_capacity = 65; }, "recv_capacity is 65"},

    {"max_local_experts_negative", [](Shape& s) { s.max_local_experts = -1; },
     "max_local_experts is -1: it must be from 0 to 4096"},
    {"max_local_experts_4096", [](Shape& s) { s.max_local_experts = 4096; }, nullptr},
    {"max_local_experts_4097", [](Shape& s) { s.max_local_experts = 4097; }, "max_local_experts is 4097"},

    {"mode_latency", [](Shape& s) { s.mode = Mode::kLatency; }, nullptr},
    {"mode_unknown", [](Shape& s) { s.mode = static_cast<Mode>(2); }, "mode (an enumerator's number) is 2"},
    {"latency_with_recv_capacity",
     [](Shape& s) {
       s.mode = Mode::kLatency;
       s.recv_capacity = 8;
     },
     "recv_capacity is 8: in latency mode every source owns max_tokens places, so leave it 0"},
    {"masks_in_latency_mode",
     [](Shape& s) {
       s.mode = Mode::kLatency;
       s.mask_late_ranks = true;
     },
     nullptr},
    {"masks_in_throughput_mode", [](Shape& s) { s.mask_late_ranks = true; }, "mask_late_ranks needs latency mode"},
    {"quantized", [](Shape& s) { set_quantized(s); }, nullptr},
    {"quantized_with_more_lanes",
     [](Shape& s) {
       set_quantized(s, DataType::kUE8M0);
       s.lanes.push_back({DataType::kByte, 3});
     },
     nullptr},
    {"quantized_without_scales",
     [](Shape& s) {
       set_quantized(s);
       s.lanes.pop_back();
     },
     "with quantization lane 0 must be float8_e4m3 and lane 1 its scales: 2 x float32 for 160 values"},
    {"quantized_to_too_few_scales", [](Shape& s) { set_quantized(s, DataType::kFloat32, 1); }, "2 x float32 for 160 values"},
    {"quantized_to_other_scales",
     [](Shape& s) {
       set_quantized(s);
       s.lanes[1].dtype = DataType::kUE8M0;
     },
     "2 x float32 for 160 values"},
    {"quantized_to_wide_exponents",
     [](Shape& s) {
       set_quantized(s, DataType::kUE8M0);
       s.lanes[1].dtype = DataType::kFloat32;
     },
     "2 x ue8m0 for 160 values"},
    {"quantized_to_bfloat16",
     [](Shape& s) {
       set_quantized(s);
       s.lanes[0].dtype = DataType::kBFloat16;
     },
     "lane 0 must be float8_e4m3"},
    {"quantized_from_float64",
     [](Shape& s) {
       set_quantized(s);
       s.quantization->from = DataType::kFloat64;
     },
     "quantization starts from float32, bfloat16 or float16 rows, not float64"},
    {"quantized_to_an_unknown_format",
     [](Shape& s) {
       set_quantized(s);
       s.quantization->format = static_cast<ScaleFormat>(3);
     },
     "the format of quantization's scales"},
    {"float8_home", [](Shape& s) { s.combine_as_float8 = true; }, nullptr},
    {"float8_home_of_float64",
     [](Shape& s) {
       s.combine = Lane{DataType::kFloat64, 8};
       s.combine_as_float8 = true;
     },
     "combine_as_float8 needs a combine type of float16, bfloat16 or float32"},
    {"float8_home_of_nothing",
     [](Shape& s) {
       s.lanes[0] = {DataType::kByte, 64};
       s.combine_as_float8 = true;
     },
     "combine_as_float8 needs a combine type"},
    {"columns_of_scales",
     [](Shape& s) {
       set_contiguous(s, 4);
       s.lanes.push_back({DataType::kFloat32, 3, true});
     },
     nullptr},
    {"columns_of_lane_0",
     [](Shape& s) {
       set_contiguous(s, 4);
       s.lanes[0].column_major = true;
     },
     "lane 0 cannot be column-major: only further lanes (scales) of expert layouts can"},
    {"columns_of_the_compact_layout", [](Shape& s) { s.lanes.push_back({DataType::kFloat32, 3, true}); },
     "lane 1 cannot be column-major"},
    {"columns_of_combine",
     [](Shape& s) {
       set_contiguous(s, 4);
       s.combine = Lane{DataType::kFloat32, 8, true};
     },
     "combine cannot be column-major"},

    {"placement_of_fewer_ranks", [](Shape& s) { s.placement.experts_of = {{0, 1, 2, 3}, {4, 5, 6, 7}}; },
     "the placement table has 2 rows and the group 4 ranks"},
    {"placement_of_more_ranks", [](Shape& s) { s.placement.experts_of = {{0, 1, 2, 3}, {4, 5, 6, 7}, {}, {}, {}}; },
     "the placement table has 5 rows and the group 4 ranks"},
    {"placement_without_an_expert", [](Shape& s) { s.placement.experts_of = {{0, 1, 2}, {3, 4, 6}, {7}, {}}; },
     "puts expert 5 on no rank"},
    {"placement_of_an_expert_too_many", [](Shape& s) { s.placement.experts_of = {{0, 1, 2, 3}, {4, 5, 6, 7}, {8}, {}}; },
     "puts expert 8 on rank 2; experts are numbered 0 to 7"},
    {"placement_of_a_negative_expert", [](Shape& s) { s.placement.experts_of = {{0, 1, 2, 3}, {4, 5, 6, 7}, {-1}, {}}; },
     "puts expert -1 on rank 2"},
    {"placement_with_replicas_and_empty_ranks",
     [](Shape& s) { s.placement.experts_of = {{0, 1, 2, 3, 4, 5, 6, 7}, {7, 7, 0}, {}, {3}}; }, nullptr},
};

INSTANTIATE_TEST_SUITE_P(of, shape_limit, testing::ValuesIn(kLimits), [](const auto& limit) { return limit.param.name; });

TEST(shape, a_plan_that_cannot_sum_has_no_combine_lane) {
  Shape shape = valid_shape();
  EXPECT_EQ(combine_lane(shape), shape.lanes[0]);
  shape.lanes[0] = {DataType::kFloat8E4M3, 64};
  EXPECT_EQ(combine_lane(shape).num_elements, 0);
  shape.combine = Lane{DataType::kBFloat16, 32};
  EXPECT_EQ(combine_lane(shape), *shape.combine);
}

}  // namespace
}  // namespace tokenyard::test
