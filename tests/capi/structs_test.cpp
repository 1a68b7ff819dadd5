// Callers that were compiled against an older or a newer header.
#include <array>
#include <cstddef>
#include <cstring>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;

// What a later header may have: known fields first, new ones behind.
template <class T>
struct Newer {
  T known;
  std::int64_t added = 0;
};

template <class T>
Newer<T> newer(T known, std::int64_t added = 0) {
  Newer<T> made{known, added};
  made.known.struct_size = sizeof(made);
  return made;
}

TEST(structs, of_an_older_caller_have_the_defaults_of_what_he_does_not_know) {
  const ty_lane lane = float_lane();
  ty_shape full = small_shape(&lane, TY_MODE_THROUGHPUT, TY_LAYOUT_COMPACT);
  ty_plan_sizes wanted = TY_PLAN_SIZES_INIT;
  expect_ok(ty_compute_plan_sizes(&full, kNumRanks, &wanted));

  ty_shape older = full;
  older.struct_size = offsetof(ty_shape, mode);
  // Were they read, they would be refused.
  older.mode = older.layout = older.overflow = older.expert_alignment = older.max_local_experts = -77;
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  expect_ok(ty_compute_plan_sizes(&older, kNumRanks, &sizes));
  EXPECT_EQ(sizes.window_bytes, wanted.window_bytes);

  // A default that is not zero.
  older.layout = TY_LAYOUT_EXPERT_CONTIGUOUS;
  older.mode = TY_MODE_THROUGHPUT;
  older.overflow = TY_OVERFLOW_GROW;
  older.struct_size = offsetof(ty_shape, expert_alignment);
  expect_ok(ty_compute_plan_sizes(&older, kNumRanks, &sizes));

  older.mode = -77;
  older.struct_size = offsetof(ty_shape, layout);
  expect_status(ty_compute_plan_sizes(&older, kNumRanks, &sizes), TY_INVALID_ARGUMENT, "shape->mode is -77");
}

// What came with ABI 0.2 lies behind the end of these, and would crash if it were read.
TEST(structs, of_callers_who_know_no_gpus_ask_for_none) {
  const auto give_size_of_abi_0_1 = [](int, ty_group_options* options) {
    options->struct_size = offsetof(ty_group_options, device);
    options->device = reinterpret_cast<const ty_device*>(std::uintptr_t{1});
  };
  const auto run_layer = [](int rank, ty_group* group) {
    EXPECT_EQ(ty_group_device(group), -1);
    const CPlan plan = make_small_plan(group);
    const SmallLayer layer(rank);
    const auto* const nowhere = reinterpret_cast<const ty_execution*>(std::uintptr_t{1});
    ty_dispatch_args dispatch = layer.dispatch();
    dispatch.struct_size = offsetof(ty_dispatch_args, execution);
    dispatch.execution = nowhere;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &dispatch);
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    ty_tensor rows = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(received.get(), 0, &rows));
    ty_combine_args combine = layer.combine(routing.get(), &rows);
    combine.struct_size = offsetof(ty_combine_args, execution);
    combine.execution = nowhere;
    expect_ok(ty_plan_combine(plan.get(), &combine));
    expect_ok(ty_group_barrier(group));
  };
  run_c_ranks(kNumRanks, run_layer, 20'000, give_size_of_abi_0_1);
}

TEST(structs, of_a_newer_caller_are_taken_if_he_sets_nothing_that_is_unknown) {
  const ty_lane lane = float_lane();
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  auto shape = newer(small_shape(&lane));
  expect_ok(ty_compute_plan_sizes(&shape.known, kNumRanks, &sizes));
  EXPECT_GT(sizes.window_bytes, 0U);

  shape.added = std::int64_t{1} << 40;
  const ty_status status = ty_compute_plan_sizes(&shape.known, kNumRanks, &sizes);
  expect_status(status, TY_INVALID_ARGUMENT, "shape: the program was compiled for a newer Tokenyard");
  EXPECT_THAT(ty_last_error(), testing::HasSubstr("This library is too old: it is Tokenyard " + std::string(ty_version())));
}

TEST(structs, in_arrays_are_as_far_apart_as_the_first_says) {
  std::array<Newer<ty_lane>, 2> lanes{newer(float_lane()), newer(float_lane())};
  lanes[1].known.num_elements = 3;
  ty_shape shape = small_shape(&lanes[0].known);
  shape.num_lanes = 2;
  ty_plan_sizes two = TY_PLAN_SIZES_INIT;
  ty_plan_sizes one = TY_PLAN_SIZES_INIT;
  expect_ok(ty_compute_plan_sizes(&shape, kNumRanks, &two));
  shape.num_lanes = 1;
  expect_ok(ty_compute_plan_sizes(&shape, kNumRanks, &one));
  EXPECT_EQ(two.num_regions, one.num_regions + 1);

  shape.num_lanes = 2;
  lanes[1].known.struct_size = sizeof(ty_lane);
  expect_status(ty_compute_plan_sizes(&shape, kNumRanks, &two), TY_INVALID_ARGUMENT, "shape->lanes[1] has struct_size");
}

TEST(structs, that_were_not_initialised_are_refused) {
  ty_shape shape{};
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  expect_status(ty_compute_plan_sizes(&shape, kNumRanks, &sizes), TY_INVALID_ARGUMENT, "struct_size is 0");
  shape.struct_size = std::size_t{1} << 50;
  expect_status(ty_compute_plan_sizes(&shape, kNumRanks, &sizes), TY_INVALID_ARGUMENT, "initialise it");
  const ty_lane lane = float_lane();
  shape = small_shape(&lane);
  std::memset(&sizes, 0xff, sizeof(sizes));
  expect_status(ty_compute_plan_sizes(&shape, kNumRanks, &sizes), TY_INVALID_ARGUMENT, "sizes: struct_size");
}

TEST(structs, that_come_back_are_filled_as_far_as_they_go) {
  const ty_lane lane = float_lane();
  const ty_shape shape = small_shape(&lane);
  ty_plan_sizes whole = TY_PLAN_SIZES_INIT;
  expect_ok(ty_compute_plan_sizes(&shape, kNumRanks, &whole));

  ty_plan_sizes smaller = TY_PLAN_SIZES_INIT;
  smaller.struct_size = offsetof(ty_plan_sizes, window_bytes);
  smaller.window_bytes = 4711;
  expect_ok(ty_compute_plan_sizes(&shape, kNumRanks, &smaller));
  EXPECT_EQ(smaller.recv_capacity, whole.recv_capacity);
  EXPECT_EQ(smaller.window_bytes, 4711U);
  EXPECT_EQ(smaller.struct_size, offsetof(ty_plan_sizes, window_bytes));

  auto larger = newer(ty_plan_sizes TY_PLAN_SIZES_INIT, -1);
  expect_ok(ty_compute_plan_sizes(&shape, kNumRanks, &larger.known));
  EXPECT_EQ(larger.known.window_bytes, whole.window_bytes);
  EXPECT_EQ(larger.added, 0);
  EXPECT_EQ(larger.known.struct_size, sizeof(larger));
}

TEST(structs, of_every_kind_that_a_caller_fills_may_be_newer) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto lane = newer(float_lane());
    const auto combine_lane = newer(float_lane());
    const std::array<std::int32_t, kNumExperts> experts{0, 1, 2, 3};
    const std::array<std::int32_t, kNumRanks> num_local{2, 2};
    auto placement = newer(ty_placement{sizeof(ty_placement), experts.data(), num_local.data(), kNumExperts, kNumRanks});
    auto shape = newer(small_shape(&lane.known));
    shape.known.combine = &combine_lane.known;
    shape.known.placement = &placement.known;
    const auto plan = make<CPlan>(ty_plan_create, group, &shape.known);
    expect_ok(ty_plan_place(plan.get(), &placement.known));

    const SmallLayer layer(rank);
    const auto tokens = newer(layer.tokens);
    auto args = newer(layer.dispatch());
    args.known.lanes = &tokens.known;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args.known);
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    auto rows = newer(ty_tensor TY_TENSOR_INIT);
    expect_ok(ty_received_get_lane(received.get(), 0, &rows.known));
    auto combine = newer(layer.combine(routing.get(), &rows.known));
    expect_ok(ty_plan_combine(plan.get(), &combine.known));

    combine.added = 1;
    expect_status(ty_plan_combine(plan.get(), &combine.known), TY_INVALID_ARGUMENT, "args: the program was compiled");
    expect_ok(ty_group_barrier(group));
  });
}

}  // namespace
}  // namespace tokenyard::test
