// Every status, its text and its fields.
#include <stdexcept>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

TEST(errors, belong_to_the_thread_that_made_them) {
  expect_status(ty_group_barrier(nullptr), TY_INVALID_ARGUMENT, "group is NULL");
  std::jthread([] {
    EXPECT_STREQ(ty_last_error(), "");
    expect_status(ty_window_quiet(nullptr), TY_INVALID_ARGUMENT, "window is NULL");
    expect_status(ty_set_error(TY_STALE, "of another thread"), TY_STALE, "of another thread");
  }).join();
  EXPECT_STREQ(ty_last_error(), "group is NULL");
  ty_failure failure = TY_FAILURE_INIT;
  expect_ok(ty_get_last_failure(&failure));
  EXPECT_EQ(failure.code, TY_INVALID_ARGUMENT);
  EXPECT_EQ(failure.culprit, -1);
}

TEST(errors, stay_until_the_next_failure) {
  expect_status(ty_group_barrier(nullptr), TY_INVALID_ARGUMENT, "group is NULL");
  expect_ok(ty_set_log_level(TY_LOG_INFO));
  EXPECT_STREQ(ty_last_error(), "group is NULL");
  expect_status(ty_get_last_failure(nullptr), TY_INVALID_ARGUMENT, "failure is NULL");
}

TEST(errors, come_from_values_that_do_not_exist) {
  expect_status(ty_set_log_level(5), TY_INVALID_ARGUMENT, "level is 5: it must be from 0 to 4");
  const ty_lane lane = float_lane();
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  const auto refused = [&](std::int32_t ty_shape::* field, std::int32_t value, const char* text) {
    ty_shape shape = small_shape(&lane);
    shape.*field = value;
    expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, text);
  };
  refused(&ty_shape::mode, 2, "shape->mode is 2");
  refused(&ty_shape::layout, 3, "shape->layout is 3");
  refused(&ty_shape::overflow, -1, "shape->overflow is -1");
  refused(&ty_shape::combine_as_float8, 2, "shape->combine_as_float8 is 2: it must be 0 or 1");
  refused(&ty_shape::num_lanes, -1, "the number of shape->lanes is -1");
  refused(&ty_shape::num_lanes, 5, "shape->num_lanes is 5");
  refused(&ty_shape::top_k, 99, "99");
  ty_lane bad_lane = lane;
  bad_lane.dtype = 9;
  ty_shape shape = small_shape(&bad_lane);
  expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, "dtype of a lane is 9");
  ty_quantization quantization = TY_QUANTIZATION_INIT;
  quantization.format = 3;
  shape = small_shape(&lane);
  shape.quantization = &quantization;
  expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, "quantization->format is 3");
  ty_region region = TY_REGION_INIT;
  shape = small_shape(&lane);
  expect_status(ty_compute_plan_region(&shape, 2, 1000, &region), TY_INVALID_ARGUMENT, "region_idx is 1000");
}

TEST(errors, come_from_gpus_that_are_not_there) {
  ty_exchange* handle = nullptr;
  expect_ok(ty_exchange_create_threads(1, &handle));
  const CExchange exchange(handle);
  ty_device device = TY_DEVICE_INIT;
  device.number = 1'000;
  ty_group_options options = TY_GROUP_OPTIONS_INIT;
  options.device = &device;
  ty_group* group = nullptr;
  // Depends on the build and the host.
  EXPECT_THAT(ty_group_create(exchange.get(), &options, &group), testing::AnyOf(TY_UNSUPPORTED, TY_INVALID_ARGUMENT));
  EXPECT_EQ(group, nullptr);
  EXPECT_THAT(ty_last_error(),
              testing::AnyOf(testing::HasSubstr("this build of Tokenyard has no CUDA"),
                             testing::HasSubstr("the NVIDIA driver is missing"), testing::HasSubstr("no GPU is visible"),
                             testing::HasSubstr("GroupOptions::device is 1000")));

  device.struct_size = 0;
  expect_status(ty_group_create(exchange.get(), &options, &group), TY_INVALID_ARGUMENT, "options->device: struct_size is 0");
}

TEST(errors, come_from_placements_that_do_not_add_up) {
  const ty_lane lane = float_lane();
  const std::int32_t experts[] = {0, 1, 2, 3};
  const std::int32_t num_local[] = {2, 1};
  ty_placement placement = TY_PLACEMENT_INIT;
  placement.experts = experts;
  placement.num_local_experts = num_local;
  placement.num_entries = 4;
  placement.num_ranks = 2;
  ty_shape shape = small_shape(&lane);
  shape.placement = &placement;
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, "add up to 3");
  placement.num_entries = 2;
  expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, "num_local_experts[1] is 1, but 0 of 2");
  placement.num_ranks = 0;
  expect_status(ty_compute_plan_sizes(&shape, 2, &sizes), TY_INVALID_ARGUMENT, "num_ranks is 0");
}

TEST(errors, say_that_a_handle_is_missing_and_leave_no_other) {
  ty_group* group = reinterpret_cast<ty_group*>(1);
  expect_status(ty_group_create(nullptr, nullptr, &group), TY_INVALID_ARGUMENT, "exchange is NULL");
  EXPECT_EQ(group, nullptr);
  expect_status(ty_group_create(nullptr, nullptr, nullptr), TY_INVALID_ARGUMENT, "group is NULL");
  expect_status(ty_exchange_create_threads(2, nullptr), TY_INVALID_ARGUMENT, "exchanges is NULL");
  EXPECT_EQ(ty_group_rank(nullptr), -1);
  EXPECT_EQ(ty_routing_num_tokens(nullptr), -1);
  EXPECT_EQ(ty_window_local(nullptr), nullptr);
  EXPECT_FALSE(ty_received_live(nullptr));
  ty_received_release(nullptr);
  ty_exchange_destroy(nullptr);
  ty_group_destroy(nullptr);
  ty_window_destroy(nullptr);
  ty_plan_destroy(nullptr);
  ty_pending_destroy(nullptr);
  ty_received_destroy(nullptr);
  ty_routing_destroy(nullptr);
  ty_router_destroy(nullptr);
}

TEST(errors, name_ranks_that_describe_different_plans) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const ty_lane lane = float_lane();
    ty_shape shape = small_shape(&lane);
    shape.top_k = 1 + rank;
    ty_plan* plan = nullptr;
    expect_status(ty_plan_create(group, &shape, &plan), TY_DISAGREEMENT, "the ranks describe different plans; top_k is");
    EXPECT_EQ(plan, nullptr);
    expect_ok(ty_group_barrier(group));
  });
}

TEST(errors, name_the_rank_that_was_waited_for) {
  run_c_ranks(
      2,
      [](int rank, ty_group* group) {
        const auto plan = make_small_plan(group);
        if (rank == 1) {
          ty_failure failure = TY_FAILURE_INIT;
          while (ty_group_get_failure(group, &failure) == TY_OK && failure.code == TY_OK) std::this_thread::yield();
          EXPECT_EQ(failure.code, TY_TIMEOUT);
          EXPECT_EQ(failure.culprit, 1);
        } else {
          const SmallLayer layer(rank);
          const ty_dispatch_args args = layer.dispatch();
          ty_received* received = nullptr;
          expect_status(ty_plan_dispatch(plan.get(), &args, &received), TY_TIMEOUT, "waited");
          ty_failure failure = TY_FAILURE_INIT;
          expect_ok(ty_get_last_failure(&failure));
          EXPECT_EQ(failure.code, TY_TIMEOUT);
          EXPECT_EQ(failure.phase, TY_PHASE_DISPATCH_COUNTS);
          EXPECT_EQ(failure.culprit, 1);
          EXPECT_EQ(failure.reporter, 0);
          EXPECT_STREQ(ty_phase_name(failure.phase), "dispatch/counts");
        }
        expect_ok(ty_group_recover(group));
        ty_failure failure = TY_FAILURE_INIT;
        expect_ok(ty_group_get_failure(group, &failure));
        EXPECT_EQ(failure.code, TY_OK);
        expect_ok(ty_group_barrier(group));
      },
      2'000);
}

TEST(errors, tell_of_a_peer_that_has_left) {
  ty_exchange* exchanges[2] = {};
  expect_ok(ty_exchange_create_threads(2, exchanges));
  ty_exchange_destroy(exchanges[1]);
  expect_status(ty_exchange_barrier(exchanges[0], 10'000), TY_PEER_LOST, "rank 1 has left");
  ty_failure failure = TY_FAILURE_INIT;
  expect_ok(ty_get_last_failure(&failure));
  EXPECT_EQ(failure.culprit, 1);
  ty_exchange_destroy(exchanges[0]);
}

TEST(errors, tell_what_is_stale_and_what_is_not_supported) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_THROUGHPUT, TY_LAYOUT_EXPERT_CONTIGUOUS);
    const SmallLayer layer(rank);
    ty_dispatch_args args = layer.dispatch();
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
    ty_tensor tensor = TY_TENSOR_INIT;
    expect_status(ty_received_get_lane(received.get(), 7, &tensor), TY_INVALID_ARGUMENT, "7");
    ty_received_release(received.get());
    expect_status(ty_received_get_lane(received.get(), 0, &tensor), TY_STALE, "released");
    expect_status(ty_received_get_combine_buffer(received.get(), &tensor), TY_STALE, "released");

    std::vector<float> memory(8 * kMaxTokens * kHidden);
    const ty_tensor place = ty_tensor_of_rows(memory.data(), TY_FLOAT32, 8 * kMaxTokens, kHidden);
    args.outputs = &place;
    args.num_outputs = 1;
    const auto elsewhere = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
    expect_status(ty_received_get_combine_buffer(elsewhere.get(), &tensor), TY_UNSUPPORTED, "");
    ty_received_release(elsewhere.get());
    expect_ok(ty_received_get_lane(elsewhere.get(), 0, &tensor));
    EXPECT_EQ(tensor.data, memory.data());
    expect_ok(ty_group_barrier(group));
  });
}

// A program in C++ may throw from its callback; what arrives is no Error of the library's.
TEST(errors, that_are_strange_exceptions_are_internal_ones) {
  run_c_ranks(1, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group);
    const SmallLayer layer(rank);
    ty_dispatch_args args = layer.dispatch();
    args.allocate = [](void*, const ty_recv_sizes*, ty_tensor* const*, std::int32_t) -> ty_status {
      throw std::runtime_error("thrown by the program");
    };
    ty_received* received = nullptr;
    expect_status(ty_plan_dispatch(plan.get(), &args, &received), TY_INTERNAL, "thrown by the program");
    args.allocate = [](void*, const ty_recv_sizes*, ty_tensor* const*, std::int32_t) -> ty_status { throw 7; };
    expect_status(ty_plan_dispatch(plan.get(), &args, &received), TY_INTERNAL, "no exception of the standard library");
  });
}

TEST(errors, have_names) {
  for (ty_status status = TY_OK; status <= TY_INTERNAL; ++status) EXPECT_STRNE(ty_status_name(status), "unknown status");
  EXPECT_STREQ(ty_status_name(TY_PEER_LOST), "peer lost");
  EXPECT_STREQ(ty_status_name(TY_INTERNAL + 1), "unknown status");
  EXPECT_STREQ(ty_status_name(-1), "unknown status");
  EXPECT_STREQ(ty_phase_name(TY_PHASE_BARRIER), "barrier");
  EXPECT_STREQ(ty_phase_name(99), "unknown phase");
  EXPECT_STREQ(ty_data_type_name(TY_BFLOAT16), "bfloat16");
  EXPECT_STREQ(ty_data_type_name(-1), "unknown type");
  EXPECT_EQ(ty_data_type_size(TY_FLOAT64), 8U);
  EXPECT_EQ(ty_data_type_size(99), 0U);
}

}  // namespace
}  // namespace tokenyard::test
