// Handles that go in any order, also while their objects are still needed.
#include <atomic>
#include <chrono>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;

TEST(handles, may_be_destroyed_before_what_was_made_from_them) {
  ty_exchange* exchanges[kNumRanks] = {};
  expect_ok(ty_exchange_create_threads(kNumRanks, exchanges));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      auto exchange = CExchange(exchanges[rank]);
      auto group = make<CGroup>(ty_group_create, exchange.get(), nullptr);
      exchange.reset();
      auto window = make<CWindow>(ty_window_create, group.get(), 64);
      auto plan = make_small_plan(group.get(), TY_MODE_LATENCY);
      group.reset();

      const SmallLayer layer(rank);
      const ty_dispatch_args dispatch = layer.dispatch();
      auto pending = make<CPending>(ty_plan_begin_dispatch, plan.get(), &dispatch);
      auto received = make<CReceived>(ty_pending_complete_dispatch, pending.get());
      pending.reset();
      auto routing = make<CRouting>(ty_received_get_routing, received.get());
      ty_tensor rows = TY_TENSOR_INIT;
      expect_ok(ty_received_get_lane(received.get(), 0, &rows));
      const ty_combine_args combine = layer.combine(routing.get(), &rows);
      auto combining = make<CPending>(ty_plan_begin_combine, plan.get(), &combine);
      routing.reset();
      plan.reset();
      expect_ok(ty_pending_complete_combine(combining.get()));
      combining.reset();

      ty_routing* late = nullptr;
      expect_ok(ty_received_get_routing(received.get(), &late));
      received.reset();
      ty_tensor source_token = TY_TENSOR_INIT;
      expect_ok(ty_routing_source_token(late, &source_token));
      EXPECT_EQ(source_token.shape[0], ty_routing_num_recv_rows(late));
      EXPECT_EQ(static_cast<const std::int32_t*>(source_token.data)[0], 0);
      ty_routing_destroy(late);

      // The last of the group's objects: no rank may leave while the other waits for it.
      expect_ok(ty_window_signal(window.get(), 1 - rank, 0, 1));
      expect_ok(ty_window_wait(window.get(), 0, TY_COMPARE_EQUAL, 1, 20'000, nullptr));
    });
  }
}

TEST(handles, of_calls_that_nobody_completes_are_let_go) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    auto plan = make_small_plan(group, TY_MODE_LATENCY);
    const SmallLayer layer(rank);
    const ty_dispatch_args args = layer.dispatch();
    auto pending = make<CPending>(ty_plan_begin_dispatch, plan.get(), &args);
    plan.reset();
    pending.reset();
    expect_ok(ty_group_barrier(group));
  });
}

TEST(handles, of_a_plan_may_go_in_its_own_callback) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const SmallLayer layer(rank);
    const ty_dispatch_args args = layer.dispatch();
    struct Context {
      CPlan plan;
      CPending pending;
      std::atomic<bool> gone{false};
    } context;
    context.plan = make_small_plan(group, TY_MODE_LATENCY);
    context.pending = make<CPending>(ty_plan_begin_dispatch, context.plan.get(), &args);
    // One rank waits for the other's half first: handles that a callback destroys are its own from here on.
    expect_ok(ty_group_barrier(group));
    ty_pending* pending = context.pending.get();
    expect_ok(ty_pending_on_done(
        pending,
        [](void* given) {
          auto* its = static_cast<Context*>(given);
          its->plan.reset();
          its->gone = true;
        },
        &context));
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!context.gone && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_TRUE(context.gone);
    context.pending.reset();
    expect_ok(ty_group_barrier(group));
  });
}

TEST(handles, of_pending_calls_complete_once_and_as_what_they_were_begun) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_LATENCY);
    const SmallLayer layer(rank);
    const ty_dispatch_args args = layer.dispatch();
    const auto pending = make<CPending>(ty_plan_begin_dispatch, plan.get(), &args);
    expect_status(ty_pending_complete_combine(pending.get()), TY_INVALID_ARGUMENT, "begun by ty_plan_begin_dispatch");
    const auto received = make<CReceived>(ty_pending_complete_dispatch, pending.get());
    ty_received* again = nullptr;
    expect_status(ty_pending_complete_dispatch(pending.get(), &again), TY_STALE, "completed already");
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    ty_tensor rows = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(received.get(), 0, &rows));
    const ty_combine_args combine = layer.combine(routing.get(), &rows);
    const auto combining = make<CPending>(ty_plan_begin_combine, plan.get(), &combine);
    expect_status(ty_pending_complete_dispatch(combining.get(), &again), TY_INVALID_ARGUMENT, "begun by ty_plan_begin_combine");
    expect_ok(ty_pending_complete_combine(combining.get()));
    expect_ok(ty_group_barrier(group));
  });
}

}  // namespace
}  // namespace tokenyard::test
