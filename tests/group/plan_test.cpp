// Making a plan: all ranks must describe the same one.
#include <gtest/gtest.h>

#include <functional>

#include "tests/base/expect_error.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::HasSubstr;

constexpr int kNumRanks = 3;

// All fields are in use, so that each can be changed to another valid value.
Shape rich_shape() {
  Shape shape = small_shape(kNumRanks);
  shape.lanes.push_back({DataType::kUE8M0, 5});
  shape.combine = Lane{DataType::kFloat32, kHidden};
  shape.recv_capacity = 20;
  shape.max_local_experts = 3;
  shape.placement.experts_of = {{0, 1}, {2, 3}, {4, 5}};
  return shape;
}

struct Difference {
  const char* field;
  std::function<void(Shape&)> change;
  const char* text;  // of rank 0, where rank 2 has the changed shape
};

const Difference kDifferences[] = {
    {"num_experts",
     [](Shape& s) {
       s.num_experts = 5;
       s.placement.experts_of[2] = {4};
     },
     "num_experts is 6 on rank 0 and 5 on rank 2"},
    {"top_k", [](Shape& s) { s.top_k = 4; }, "top_k is 2 on rank 0 and 4 on rank 2"},
    {"max_tokens", [](Shape& s) { s.max_tokens = 17; }, "max_tokens is 16 on rank 0 and 17 on rank 2"},
    {"lanes", [](Shape& s) { s.lanes.pop_back(); }, "the number of lanes is 2 on rank 0 and 1 on rank 2"},
    {"lanes_dtype", [](Shape& s) { s.lanes[1].dtype = DataType::kFloat32; },
     "lanes[1].dtype is ue8m0 on rank 0 and float32 on rank 2"},
    {"lanes_num_elements", [](Shape& s) { s.lanes[0].num_elements = 16; },
     "lanes[0].num_elements is 8 on rank 0 and 16 on rank 2"},
    {"combine", [](Shape& s) { s.combine.reset(); }, "combine.dtype is float32 on rank 0 and not set on rank 2"},
    {"combine_dtype", [](Shape& s) { s.combine->dtype = DataType::kFloat64; },
     "combine.dtype is float32 on rank 0 and float64 on rank 2"},
    {"combine_num_elements", [](Shape& s) { s.combine->num_elements = 4; },
     "combine.num_elements is 8 on rank 0 and 4 on rank 2"},
    {"mode", [](Shape& s) { s.mode = Mode::kLatency, s.recv_capacity = 0; },
     "mode is throughput on rank 0 and latency on rank 2"},
    {"combine_as_float8", [](Shape& s) { s.combine_as_float8 = true; }, "combine_as_float8 is 0 on rank 0 and 1 on rank 2"},
    {"column_major",
     [](Shape& s) {
       s.layout = Layout::kExpertContiguous;
       s.lanes[1].column_major = true;
     },
     "lanes[1].column_major is 0 on rank 0 and 1 on rank 2"},
    {"quantization",
     [](Shape& s) {
       s.lanes = {{DataType::kFloat8E4M3, 128}, {DataType::kFloat32, 1}};
       s.quantization = Quantization{};
     },
     "quantization.from is not set on rank 0 and bfloat16 on rank 2"},
    {"layout", [](Shape& s) { s.layout = Layout::kExpertContiguous; },
     "layout is compact on rank 0 and expert-contiguous on rank 2"},
    {"expert_alignment", [](Shape& s) { s.expert_alignment = 128; }, "expert_alignment is 1 on rank 0 and 128 on rank 2"},
    {"expert_capacity", [](Shape& s) { s.expert_capacity = 9; }, "expert_capacity is 0 on rank 0 and 9 on rank 2"},
    {"recv_capacity", [](Shape& s) { s.recv_capacity = 0; }, "recv_capacity is 20 on rank 0 and 0 on rank 2"},
    {"overflow", [](Shape& s) { s.overflow = Overflow::kDrop; }, "overflow is grow on rank 0 and drop on rank 2"},
    {"placement", [](Shape& s) { s.placement.experts_of = {{1, 0}, {2, 3}, {4, 5}}; }, "placement (fingerprint) is"},
    {"placement_replica", [](Shape& s) { s.placement.experts_of[0].push_back(5); }, "placement (fingerprint) is"},
    {"max_local_experts", [](Shape& s) { s.max_local_experts = 4; }, "max_local_experts is 3 on rank 0 and 4 on rank 2"},
};

class shape_difference : public testing::TestWithParam<Difference> {};

TEST_P(shape_difference, is_reported_with_ranks_field_and_values) {
  const Difference& difference = GetParam();
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    Shape shape = rich_shape();
    if (rank == 2) difference.change(shape);
    const auto error = error_of([&] { group.plan(shape); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement) << error->what();
    EXPECT_THAT(error->what(), HasSubstr("the ranks describe different plans; "));
    EXPECT_EQ(error->failure().culprit, rank == 2 ? 0 : 2);
    EXPECT_EQ(error->failure().reporter, rank);
    if (rank == 0) {
      EXPECT_THAT(error->what(), HasSubstr(difference.text));
      EXPECT_THAT(error->what(), Not(HasSubstr("on rank 1"))) << "rank 1 agrees";
    }
    EXPECT_FALSE(group.status().has_value());
    expect_round_trip(group.plan(small_shape(kNumRanks)), rank, kNumRanks, 0);
    group.barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(of, shape_difference, testing::ValuesIn(kDifferences),
                         [](const auto& difference) { return difference.param.field; });

TEST(plan, an_invalid_shape_on_one_rank_makes_all_throw_and_leaves_nothing_behind) {
  run_thread_ranks(kNumRanks, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    Shape shape = small_shape(kNumRanks);
    if (rank == 1) shape.lanes[0].num_elements = 3;
    if (rank == 1) {
      expect_error([&] { group.plan(shape); }, ErrorCode::kInvalidArgument, "lane 0 has rows of 12 bytes");
    } else {
      expect_error([&] { group.plan(shape); }, ErrorCode::kDisagreement, "rank 1 found its own shape invalid");
    }
    expect_round_trip(group.plan(small_shape(kNumRanks)), rank, kNumRanks, 0);
    group.barrier();
  });
}

TEST(plan, a_shape_that_is_invalid_everywhere_is_every_ranks_own_complaint) {
  run_thread_ranks(kNumRanks, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    Shape shape = small_shape(kNumRanks);
    shape.placement.experts_of = {{0}, {1}, {2}};
    expect_error([&] { group.plan(shape); }, ErrorCode::kInvalidArgument, "puts expert 3 on no rank");
    shape = small_shape(kNumRanks, Layout::kExpertPadded);
    shape.lanes[0] = {DataType::kByte, 1 << 28};
    shape.max_tokens = 1 << 28;
    shape.expert_capacity = std::int64_t{1} << 29;
    shape.max_local_experts = 4096;
    expect_error([&] { group.plan(shape); }, ErrorCode::kInvalidArgument, "the expert-padded layout could need");
    group.barrier();
  });
}

TEST(plan, many_differences_are_counted_rather_than_all_listed) {
  run_thread_ranks(6, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    Shape shape = small_shape(6);
    shape.max_tokens += rank;
    shape.expert_alignment += rank;
    const auto error = error_of([&] { group.plan(shape); });
    ASSERT_TRUE(error.has_value());
    EXPECT_THAT(error->what(), HasSubstr("; and 2 more differences"));
    group.barrier();
  });
}

TEST(plan, says_its_shape_sizes_and_local_experts) {
  run_thread_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    Shape shape = small_shape(4);
    shape.num_experts = 7;
    const Plan plan = group.plan(shape);
    EXPECT_EQ(plan.shape(), shape);
    EXPECT_EQ(plan.sizes().window_bytes, plan_sizes(shape, 4).window_bytes);
    EXPECT_EQ(plan.num_local_experts(), rank == 3 ? 1 : 2);
    group.barrier();
  });
}

TEST(plan, a_placement_that_cannot_be_is_refused_and_the_old_one_stays) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    const Plan plan = group.plan(small_shape(2));
    expect_error([&] { plan.place({{{0, 1, 2}, {3}}}); }, ErrorCode::kInvalidArgument,
                 "the placement puts 3 experts on one rank and the plan was made for 2: set Shape::max_local_experts");
    expect_error([&] { plan.place({{{0, 1}, {2}}}); }, ErrorCode::kInvalidArgument, "puts expert 3 on no rank");
    expect_error([&] { plan.place({{{0, 1, 2, 3}}}); }, ErrorCode::kInvalidArgument, "the placement table has 1 rows");
    EXPECT_EQ(plan.num_local_experts(), 2);
    expect_round_trip(plan, rank, 2, 0);
    group.barrier();
  });
}

TEST(plan, plans_of_one_group_are_used_by_different_threads) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    const Plan first = group.plan(small_shape(2));
    const Plan second = group.plan(small_shape(2));
    std::thread other([&] {
      for (int round = 0; round < 200; ++round) expect_round_trip(second, rank, 2, round);
    });
    for (int round = 0; round < 200; ++round) expect_round_trip(first, rank, 2, round + 7);
    other.join();
    group.barrier();
  });
}

}  // namespace
}  // namespace tokenyard::test
