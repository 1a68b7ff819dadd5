// Plans, groups and routers seen through their accessors.
#include <array>
#include <barrier>
#include <cstring>

#include "tests/capi/c_ranks.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;

TEST(plans, tell_their_sizes_with_and_without_ranks) {
  const Shape shape{.num_experts = kNumExperts,
                    .top_k = kTopK,
                    .max_tokens = kMaxTokens,
                    .lanes = {{DataType::kFloat32, kHidden}},
                    .combine = {},
                    .quantization = {}};
  const PlanSizes wanted = plan_sizes(shape, kNumRanks);
  const ty_lane lane = float_lane();
  const ty_shape given = small_shape(&lane);
  const auto expect_sizes = [&](const ty_plan_sizes& sizes) {
    EXPECT_EQ(sizes.recv_capacity, wanted.recv_capacity);
    EXPECT_EQ(sizes.worst_recv_rows, wanted.worst_recv_rows);
    EXPECT_EQ(sizes.max_local_experts, wanted.max_local_experts);
    EXPECT_EQ(sizes.max_fan_out, wanted.max_fan_out);
    EXPECT_EQ(sizes.window_bytes, wanted.window_bytes);
    EXPECT_EQ(sizes.metadata_bytes, wanted.metadata_bytes);
    EXPECT_EQ(sizes.num_slots, kNumSlots);
    ASSERT_EQ(static_cast<std::size_t>(sizes.num_regions), wanted.regions.size());
  };
  const auto expect_region = [&](const ty_region& region, int region_idx) {
    const Region& found = wanted.regions[static_cast<std::size_t>(region_idx)];
    EXPECT_EQ(region.offset, found.offset);
    EXPECT_EQ(region.num_bytes, found.num_bytes);
    EXPECT_EQ(region.is_metadata, found.metadata ? 1 : 0);
    EXPECT_EQ(region.window, found.window);
    EXPECT_EQ(region.name, found.name);
  };
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  expect_ok(ty_compute_plan_sizes(&given, kNumRanks, &sizes));
  expect_sizes(sizes);
  ty_region region = TY_REGION_INIT;
  for (int i = 0; i < sizes.num_regions; ++i) {
    expect_ok(ty_compute_plan_region(&given, kNumRanks, i, &region));
    expect_region(region, i);
  }
  run_c_ranks(kNumRanks, [&](int, ty_group* group) {
    const auto plan = make_small_plan(group);
    ty_plan_sizes of_plan = TY_PLAN_SIZES_INIT;
    ty_region of_region = TY_REGION_INIT;
    expect_ok(ty_plan_get_sizes(plan.get(), &of_plan));
    expect_sizes(of_plan);
    expect_ok(ty_plan_get_region(plan.get(), 1, &of_region));
    expect_region(of_region, 1);
    EXPECT_EQ(ty_plan_num_local_experts(plan.get()), kNumExperts / kNumRanks);
    expect_ok(ty_group_barrier(group));
  });
}

TEST(plans, count_what_they_have_seen_of_their_peers) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_LATENCY);
    const SmallLayer layer(rank);
    const ty_dispatch_args args = layer.dispatch();
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
    ty_recv_sizes sizes = TY_RECV_SIZES_INIT;
    expect_ok(ty_received_get_sizes(received.get(), &sizes));
    std::uint64_t num_rows = 0;
    ty_peer_counters counters = TY_PEER_COUNTERS_INIT;
    for (int peer = 0; peer < kNumRanks; ++peer) {
      expect_ok(ty_plan_get_counters(plan.get(), peer, &counters));
      num_rows += counters.num_rows;
    }
    EXPECT_EQ(num_rows, static_cast<std::uint64_t>(sizes.num_recv_rows));
    expect_ok(ty_plan_get_counters(plan.get(), 1 - rank, &counters));
    EXPECT_EQ(counters.num_calls, 1U);
    expect_status(ty_plan_get_counters(plan.get(), kNumRanks, &counters), TY_INVALID_ARGUMENT, "rank is 2");
    expect_ok(ty_group_barrier(group));
  });
}

TEST(plans, skip_masked_ranks) {
  // The masked rank's next call would fail, so nobody may rely on the group's barrier.
  std::barrier<> end(3);
  run_c_ranks(3, [&](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_LATENCY);
    if (rank != 2) {
      expect_ok(ty_plan_mask_rank(plan.get(), 2));
      std::array<std::int32_t, 2> masked{-7, -7};
      std::int32_t num_masked = 0;
      expect_ok(ty_plan_get_masked_ranks(plan.get(), masked.data(), 2, &num_masked));
      EXPECT_EQ(num_masked, 1);
      EXPECT_THAT(masked, testing::ElementsAre(2, -7));
      num_masked = 0;
      expect_ok(ty_plan_get_masked_ranks(plan.get(), nullptr, 0, &num_masked));
      EXPECT_EQ(num_masked, 1);
      expect_status(ty_plan_get_masked_ranks(plan.get(), nullptr, 1, &num_masked), TY_INVALID_ARGUMENT, "ranks is NULL");
      const SmallLayer layer(rank);
      const ty_dispatch_args args = layer.dispatch();
      const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
      const auto routing = make<CRouting>(ty_received_get_routing, received.get());
      ty_tensor offsets = TY_TENSOR_INIT;
      expect_ok(ty_routing_source_offsets(routing.get(), &offsets));
      const auto* begin = static_cast<const std::int64_t*>(offsets.data);
      EXPECT_EQ(begin[3], begin[2]);
      EXPECT_GT(begin[2], 0);
    }
    expect_status(ty_plan_mask_rank(plan.get(), 3), TY_INVALID_ARGUMENT, "3");
    end.arrive_and_wait();
  });
}

TEST(plans, place_experts_anew) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group);
    const std::array<std::int32_t, kNumExperts> swapped{2, 3, 0, 1};
    const std::array<std::int32_t, kNumRanks> num_local{2, 2};
    ty_placement placement = TY_PLACEMENT_INIT;
    placement.experts = swapped.data();
    placement.num_local_experts = num_local.data();
    placement.num_entries = kNumExperts;
    placement.num_ranks = kNumRanks;
    expect_ok(ty_plan_place(plan.get(), &placement));
    SmallLayer layer(rank, 1);
    layer.ids = {0, 1};
    const ty_dispatch_args args = layer.dispatch();
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
    ty_recv_sizes sizes = TY_RECV_SIZES_INIT;
    expect_ok(ty_received_get_sizes(received.get(), &sizes));
    EXPECT_EQ(sizes.num_recv_rows, rank == 1 ? kNumRanks : 0);
    expect_ok(ty_group_barrier(group));
  });
}

TEST(groups, tell_who_they_are) {
  run_c_ranks(
      kNumRanks,
      [](int rank, ty_group* group) {
        EXPECT_EQ(ty_group_rank(group), rank);
        EXPECT_EQ(ty_group_num_ranks(group), kNumRanks);
        EXPECT_EQ(ty_group_num_domains(group), 1);
        EXPECT_EQ(ty_group_domain_of(group, 1), 0);
        EXPECT_EQ(ty_group_domain_of(group, 2), -1);
        EXPECT_EQ(ty_group_timeout_ms(group), 12'345);
        expect_ok(ty_group_barrier(group));
      },
      12'345);
}

TEST(groups, are_made_with_options) {
  ty_exchange* exchanges[kNumRanks] = {};
  expect_ok(ty_exchange_create_threads(kNumRanks, exchanges));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const CExchange exchange(exchanges[rank]);
      ty_group_options options = TY_GROUP_OPTIONS_INIT;
      ty_group* refused = nullptr;
      options.waiting = 3;
      expect_status(ty_group_create(exchange.get(), &options, &refused), TY_INVALID_ARGUMENT, "options->waiting is 3");
      options = TY_GROUP_OPTIONS_INIT;
      options.domain = -2;
      expect_status(ty_group_create(exchange.get(), &options, &refused), TY_INVALID_ARGUMENT, "options->domain is -2");
      options.domain = rank + 5;
      options.waiting = TY_WAITING_YIELD;
      const auto group = make<CGroup>(ty_group_create, exchange.get(), &options);
      EXPECT_EQ(ty_group_num_domains(group.get()), 2);
      EXPECT_EQ(ty_group_domain_of(group.get(), 1), 1);
      expect_ok(ty_exchange_barrier(exchange.get(), 20'000));
    });
  }
}

TEST(versions, are_those_of_the_header) {
  EXPECT_EQ(ty_abi_version(), static_cast<std::uint32_t>(TY_ABI_VERSION));
  EXPECT_STREQ(ty_version(), version());
  EXPECT_EQ(ty_wire_version(), kWireVersion);
}

}  // namespace
}  // namespace tokenyard::test
