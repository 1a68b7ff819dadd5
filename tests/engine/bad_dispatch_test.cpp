// Wrong arguments of one rank: a clear error before anything is sent, so that the right call afterwards serves all ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;
constexpr int kNumExperts = 2 * kNumRanks;
constexpr int kClumsy = 1;  // the rank that gets it wrong

constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;

// Memory for wrong arguments of any kind, large enough for all of them.
struct Scrap {
  std::array<float, 4096> floats{};
  std::array<double, 4096> doubles{};
  std::array<std::int32_t, 4096> ids{};
  std::array<std::int64_t, 4096> wide_ids{};
  std::vector<TensorView> outputs;
  std::vector<ConstTensorView> lanes;
};

struct WrongDispatch {
  const char* name;
  std::function<void(SmallRank&, Scrap&, DispatchArgs&)> spoil;
  ErrorCode code;
  const char* text;
};

constexpr std::int64_t kNumTokens = 10;  // of the small layer

// The right ids, one of them replaced.
void set_id(SmallRank& rank, Scrap& scrap, DispatchArgs& args, std::int64_t token, int k, std::int64_t id) {
  for (std::size_t i = 0; i < rank.input.ids.size(); ++i) scrap.wide_ids[i] = rank.input.ids[i];
  scrap.wide_ids[static_cast<std::size_t>(token * kTopK + k)] = id;
  args.topk_idx = tensor(std::as_const(scrap.wide_ids).data(), {kNumTokens, kTopK});
}

void set_lane(Scrap& scrap, DispatchArgs& args, const ConstTensorView& lane) {
  scrap.lanes = {lane};
  args.lanes = scrap.lanes;
}

const WrongDispatch kWrongDispatches[] = {
    {"id_below_minus_1", [](auto& r, auto& s, auto& a) { set_id(r, s, a, 0, 0, -2); }, kInvalid,
     "topk_idx[0, 0] is -2: ids go from 0 to 5, and -1 stands for no expert"},
    {"id_beyond_the_experts", [](auto& r, auto& s, auto& a) { set_id(r, s, a, 9, 1, kNumExperts); }, kInvalid,
     "topk_idx[9, 1] is 6: ids go from 0 to 5"},
    {"id_beyond_32_bits", [](auto& r, auto& s, auto& a) { set_id(r, s, a, 3, 0, (std::int64_t{1} << 32) + 1); }, kInvalid,
     "topk_idx[3, 0] is 4294967297"},
    {"id_of_the_least_number",
     [](auto& r, auto& s, auto& a) { set_id(r, s, a, 3, 1, std::numeric_limits<std::int64_t>::min()); }, kInvalid,
     "topk_idx[3, 1] is -9223372036854775808"},
    {"more_tokens_than_the_bound",
     [](auto&, auto& s, auto& a) {
       a.topk_idx = tensor(std::as_const(s.ids).data(), {kMaxTokens + 1, kTopK});
       set_lane(s, a, tensor(std::as_const(s.floats).data(), {kMaxTokens + 1, kHidden}));
     },
     kInvalid, "17 tokens were given and the plan's max_tokens is 16"},
    {"negative_number_of_tokens",
     [](auto&, auto& s, auto& a) {
       a.topk_idx = tensor(std::as_const(s.ids).data(), {-1, kTopK});
       set_lane(s, a, tensor(std::as_const(s.floats).data(), {-1, kHidden}));
     },
     kInvalid, "topk_idx: the shape [-1, 2] is negative"},

    {"no_ids_and_no_routing", [](auto&, auto&, auto& a) { a.topk_idx = {}; }, kInvalid, "topk_idx"},
    {"ids_at_null", [](auto&, auto&, auto& a) { a.topk_idx.data = nullptr; }, kInvalid, "topk_idx: null pointer"},
    {"ids_of_floats", [](auto&, auto& s, auto& a) { a.topk_idx = tensor(std::as_const(s.floats).data(), {kNumTokens, kTopK}); },
     kInvalid, "topk_idx: elements of type float32 given, int32 or int64 expected"},
    {"ids_of_one_dimension", [](auto&, auto& s, auto& a) { a.topk_idx = tensor(std::as_const(s.ids).data(), {kNumTokens}); },
     kInvalid, "topk_idx: 1 dimensions given, 2 expected"},
    {"ids_of_another_top_k",
     [](auto&, auto& s, auto& a) { a.topk_idx = tensor(std::as_const(s.ids).data(), {kNumTokens, kTopK + 1}); }, kInvalid,
     "topk_idx: shape [10, 3] given, [10, 2] expected"},

    {"no_lanes", [](auto&, auto&, auto& a) { a.lanes = {}; }, kInvalid, "0 lanes were given and the plan takes 1"},
    {"a_lane_too_many",
     [](auto& r, auto& s, auto& a) {
       s.lanes = {r.input.lanes[0], r.input.lanes[0]};
       a.lanes = s.lanes;
     },
     kInvalid, "2 lanes were given and the plan takes 1"},
    {"lane_at_null",
     [](auto&, auto& s, auto& a) { set_lane(s, a, tensor(static_cast<const float*>(nullptr), {kNumTokens, kHidden})); },
     kInvalid, "lane 0: null pointer"},
    {"lane_of_another_type",
     [](auto&, auto& s, auto& a) { set_lane(s, a, tensor(std::as_const(s.doubles).data(), {kNumTokens, kHidden})); }, kInvalid,
     "lane 0: elements of type float64 given, float32 expected"},
    {"lane_of_fewer_rows",
     [](auto&, auto& s, auto& a) { set_lane(s, a, tensor(std::as_const(s.floats).data(), {kNumTokens - 1, kHidden})); },
     kInvalid, "lane 0: shape [9, 8] given, [10, 8] expected"},
    {"lane_of_another_width",
     [](auto&, auto& s, auto& a) { set_lane(s, a, tensor(std::as_const(s.floats).data(), {kNumTokens, kHidden + 8})); },
     kInvalid, "lane 0: shape [10, 16] given, [10, 8] expected"},
    {"lane_of_three_dimensions",
     [](auto&, auto& s, auto& a) { set_lane(s, a, tensor(std::as_const(s.floats).data(), {kNumTokens, kHidden, 1})); },
     kInvalid, "lane 0: 3 dimensions given, 2 expected"},
    {"lane_whose_elements_stand_apart",
     [](auto&, auto& s, auto& a) {
       set_lane(s, a, {s.floats.data(), DataType::kFloat32, {kNumTokens, kHidden}, {2 * kHidden, 2}});
     },
     kInvalid, "lane 0: the elements of a row stand 2 apart"},

    {"weights_at_null",
     [](auto&, auto&, auto& a) { a.topk_weights = tensor(static_cast<const float*>(nullptr), {kNumTokens, kTopK}); }, kInvalid,
     "topk_weights: null pointer"},
    {"weights_of_another_type",
     [](auto&, auto& s, auto& a) { a.topk_weights = tensor(std::as_const(s.doubles).data(), {kNumTokens, kTopK}); }, kInvalid,
     "topk_weights: elements of type float64 given, float32 expected"},
    {"weights_of_another_shape",
     [](auto&, auto& s, auto& a) { a.topk_weights = tensor(std::as_const(s.floats).data(), {kNumTokens, 1}); }, kInvalid,
     "topk_weights: shape [10, 1] given, [10, 2] expected"},

    {"slot_2", [](auto&, auto&, auto& a) { a.slot = 2; }, kInvalid, "slot is 2: it must be 0, 1, or -1 to alternate"},
    {"slot_minus_2", [](auto&, auto&, auto& a) { a.slot = -2; }, kInvalid, "slot is -2"},
    {"outputs_and_allocate",
     [](auto&, auto& s, auto& a) {
       s.outputs = {tensor(s.floats.data(), {48, kHidden})};
       a.outputs = s.outputs;
       a.allocate = [](const RecvSizes&, std::span<TensorView>) {};
     },
     kInvalid, "give either outputs or allocate, not both"},
    {"an_output_too_many",
     [](auto&, auto& s, auto& a) {
       s.outputs.assign(2, tensor(s.floats.data(), {48, kHidden}));
       a.outputs = s.outputs;
     },
     kInvalid, "2 outputs were given and the plan has 1 lanes"},

    // Never used as what they claim to be.
    {"a_stream", [](auto&, auto& s, auto& a) { a.execution.stream = reinterpret_cast<Stream>(s.floats.data()); },
     ErrorCode::kUnsupported, "set GroupOptions::device"},
    {"an_event_to_wait_for", [](auto&, auto& s, auto& a) { a.execution.wait_for = reinterpret_cast<Event>(s.floats.data()); },
     ErrorCode::kUnsupported, "set GroupOptions::device"},
    {"an_event_to_record", [](auto&, auto& s, auto& a) { a.execution.record = reinterpret_cast<Event>(s.floats.data()); },
     ErrorCode::kUnsupported, "set GroupOptions::device"},
    {"a_number_of_sms", [](auto&, auto&, auto& a) { a.execution.num_sms = 8; }, ErrorCode::kUnsupported,
     "set GroupOptions::device"},
    {"plain_copies", [](auto&, auto&, auto& a) { a.execution.copies = Copies::kPlain; }, ErrorCode::kUnsupported,
     "set GroupOptions::device"},
};

class wrong_dispatch : public testing::TestWithParam<WrongDispatch> {};

TEST_P(wrong_dispatch, is_refused_and_the_right_one_serves_all) {
  const WrongDispatch& wrong = GetParam();
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    for (int repetition = 0; repetition < 3; ++repetition) {
      if (rank.rank == kClumsy) {
        Scrap scrap;
        DispatchArgs args = rank.dispatch(kAmple);
        wrong.spoil(rank, scrap, args);
        expect_error([&] { rank.plan.dispatch(args); }, wrong.code, wrong.text);
        EXPECT_FALSE(rank.group.status().has_value());
      }
      expect_round_trip(rank.plan, rank.rank, kNumRanks, repetition);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(of, wrong_dispatch, testing::ValuesIn(kWrongDispatches),
                         [](const auto& wrong) { return wrong.param.name; });

struct WrongCached {
  const char* name;
  std::function<void(SmallRank&, const Routing&, DispatchArgs&)> spoil;
  ErrorCode code;
  const char* text;
};

const WrongCached kWrongCached[] = {
    {"empty_routing",
     [](auto&, auto&, auto& a) {
       static const Routing empty;
       a.routing = &empty;
     },
     ErrorCode::kStale, "the Routing is empty: take it from the result of a dispatch"},
    {"ids_as_well", [](auto& r, auto&, auto& a) { a.topk_idx = r.input.dispatch().topk_idx; }, kInvalid,
     "a cached dispatch takes its ids and weights from the Routing"},
    {"weights_as_well", [](auto& r, auto&, auto& a) { a.topk_weights = tensor(r.input.weights.data(), {kNumTokens, kTopK}); },
     kInvalid, "a cached dispatch takes its ids and weights from the Routing"},
    {"rows_of_other_tokens",
     [](auto& r, auto&, auto& a) {
       static thread_local std::vector<ConstTensorView> lanes;
       lanes = {tensor(std::as_const(r.input.rows).data(), {kNumTokens - 1, kHidden})};
       a.lanes = lanes;
     },
     kInvalid, "lane 0: shape [9, 8] given, [10, 8] expected"},
};

class wrong_cached_dispatch : public testing::TestWithParam<WrongCached> {};

TEST_P(wrong_cached_dispatch, is_refused_and_the_right_one_serves_all) {
  const WrongCached& wrong = GetParam();
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    const Routing routing = received.routing();
    received.release();
    if (rank.rank == kClumsy) {
      DispatchArgs args = rank.cached(routing, kAmple);
      wrong.spoil(rank, routing, args);
      expect_error([&] { rank.plan.dispatch(args); }, wrong.code, wrong.text);
    }
    const Received again = rank.plan.dispatch(rank.cached(routing, kAmple));
    expect_rows(again, kNumRanks, 0);
  });
}

INSTANTIATE_TEST_SUITE_P(of, wrong_cached_dispatch, testing::ValuesIn(kWrongCached),
                         [](const auto& wrong) { return wrong.param.name; });

TEST(bad_dispatch, routings_of_other_plans_groups_and_ranks_are_stale) {
  std::array<Routing, kNumRanks> routings;
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    routings[rank.rank] = received.routing();
    received.release();
    rank.meet();
    constexpr const char* kText = "the Routing comes from a plan that routes differently";

    const Routing& of_neighbour = routings[(rank.rank + 1) % kNumRanks];
    expect_error([&] { rank.plan.dispatch(rank.cached(of_neighbour, kAmple)); }, ErrorCode::kStale, kText);

    for (const auto& change : std::initializer_list<void (*)(Shape&)>{
             [](Shape& s) { s.num_experts = 5; }, [](Shape& s) { s.top_k = 1; }, [](Shape& s) { s.max_tokens = 12; },
             [](Shape& s) { s.layout = Layout::kExpertContiguous; }, [](Shape& s) { s.expert_alignment = 4; },
             [](Shape& s) { s.expert_capacity = 4; }, [](Shape& s) { s.overflow = Overflow::kDrop; }}) {
      Shape shape = small_shape(kNumRanks);
      change(shape);
      const Plan other = rank.group.plan(shape);
      expect_error([&] { other.dispatch(rank.cached(routings[rank.rank], kAmple)); }, ErrorCode::kStale, kText);
    }

    Shape wider = small_shape(kNumRanks);
    wider.lanes[0] = {DataType::kFloat64, kHidden};
    const Plan alike = rank.group.plan(wider);
    std::vector<double> rows(kNumTokens * kHidden, 2.5);
    const std::vector<ConstTensorView> lanes{tensor(std::as_const(rows).data(), {kNumTokens, kHidden})};
    DispatchArgs args;
    args.lanes = lanes;
    args.routing = &routings[rank.rank];
    const Received of_alike = alike.dispatch(args);
    EXPECT_EQ(of_alike.sizes().num_recv_rows, routings[rank.rank].num_recv_rows()) << "plans that differ in lanes route alike";
    rank.meet();
  });
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    expect_error([&] { rank.plan.dispatch(rank.cached(routings[rank.rank], kAmple)); }, ErrorCode::kStale, "another group");
    expect_round_trip(rank.plan, rank.rank, kNumRanks, 0);
  });
}

TEST(bad_dispatch, a_routing_of_an_older_placement_combines_but_does_not_dispatch) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    rank.plan.place({{{1, 0}, {2, 3}, {4, 5}}});
    expect_error([&] { rank.plan.dispatch(rank.cached(received.routing(), kAmple)); }, ErrorCode::kStale,
                 "the Routing was made for another placement of the experts: dispatch with top-k ids again");
    SmallOutput output(rank.input);
    rank.plan.combine(combine_of(output, received, kAmple));
    output.expect_sum(rank.input, kNumRanks);
  });
}

TEST(bad_dispatch, a_third_live_result_is_refused_until_one_of_the_two_is_released) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    Received first = rank.plan.dispatch(rank.dispatch(kAmple));
    const Received second = rank.plan.dispatch(rank.dispatch(kAmple));
    EXPECT_NE(first.slot(), second.slot());
    for (const int slot : {-1, 0, 1}) {
      DispatchArgs args = rank.dispatch(kAmple);
      args.slot = slot;
      expect_error([&] { rank.plan.dispatch(args); }, kInvalid, "still holds a live result: release it first");
    }
    expect_rows(first, kNumRanks, 0);
    first.release();
    EXPECT_FALSE(first.live());
    first.release();
    const Received third = rank.plan.dispatch(rank.dispatch(kAmple));
    EXPECT_EQ(third.slot(), first.slot());
    expect_rows(third, kNumRanks, 0);
    expect_rows(second, kNumRanks, 0);
  });
}

// --- Outputs of the caller, some of which can only be judged once the sizes are known
// --------------------------------------------

struct WrongOutput {
  const char* name;
  Layout layout;
  std::function<void(Scrap&, const RecvSizes&, TensorView&)> give;
  const char* text;
  bool needs_sizes = false;  // to be noticed
};

TensorView fitting_output(Scrap& scrap, Layout layout, const RecvSizes& sizes) {
  if (layout == Layout::kExpertPadded) {
    return tensor(scrap.floats.data(), {sizes.num_local_experts, kNumRanks * kMaxTokens * kTopK, kHidden});
  }
  return tensor(scrap.floats.data(), {sizes.num_tensor_rows, kHidden});
}

const WrongOutput kWrongOutputs[] = {
    {"no_view", Layout::kCompact, [](auto&, auto&, auto& o) { o = {}; }, "the output for lane 0"},
    {"null", Layout::kCompact, [](auto&, auto&, auto& o) { o.data = nullptr; }, "the output for lane 0 is a null pointer"},
    {"a_row_too_few", Layout::kCompact, [](auto&, auto&, auto& o) { --o.shape[0]; }, "the output for lane 0", true},
    {"another_width", Layout::kCompact,
     [](auto& s, auto& r, auto& o) { o = tensor(s.floats.data(), {r.num_tensor_rows, kHidden + 1}); }, "the output for lane 0"},
    {"another_type", Layout::kCompact,
     [](auto& s, auto& r, auto& o) { o = tensor(s.doubles.data(), {r.num_tensor_rows, kHidden}); }, "given: float64"},
    {"strided", Layout::kCompact, [](auto&, auto&, auto& o) { o.strides[0] = 2 * kHidden; },
     "must be a float32 tensor of shape"},
    {"another_number_of_dimensions", Layout::kCompact,
     [](auto& s, auto& r, auto& o) { o = tensor(s.floats.data(), {r.num_tensor_rows * kHidden}); }, "the output for lane 0"},
    {"contiguous_a_row_too_few", Layout::kExpertContiguous, [](auto&, auto&, auto& o) { --o.shape[0]; },
     "the output for lane 0", true},
    {"padded_less_capacity", Layout::kExpertPadded,
     [](auto& s, auto& r, auto& o) { o = tensor(s.floats.data(), {r.num_local_experts, 7, kHidden}); }, "of shape [2, 96, 8]"},
    {"padded_in_two_dimensions", Layout::kExpertPadded,
     [](auto& s, auto& r, auto& o) { o = tensor(s.floats.data(), {r.num_tensor_rows, kHidden}); }, "of shape [2, 96, 8]"},
};

class wrong_output : public testing::TestWithParam<WrongOutput> {};

TEST_P(wrong_output, is_reported_and_harms_nobody_else) {
  const WrongOutput& wrong = GetParam();
  run_small_ranks(
      kNumRanks,
      [&](SmallRank& rank) {
        for (const bool by_callback : {true, false}) {
          Scrap scrap;
          DispatchArgs args = rank.dispatch(kAmple);
          const auto give = [&](const RecvSizes& sizes, std::span<TensorView> outputs) {
            outputs[0] = fitting_output(scrap, wrong.layout, sizes);
            if (rank.rank == kClumsy) wrong.give(scrap, sizes, outputs[0]);
          };
          if (by_callback) {
            args.allocate = give;
          } else {
            Received sizing = rank.plan.dispatch(rank.dispatch(kAmple));
            scrap.outputs.resize(1);
            give(sizing.sizes(), scrap.outputs);
            args.outputs = scrap.outputs;
          }
          if (rank.rank == kClumsy) {
            expect_error([&] { rank.plan.dispatch(args); }, kInvalid, wrong.text);
            // What can be seen without the sizes is refused before anything is sent, and the call may be repeated.
            if (!by_callback && !wrong.needs_sizes) rank.plan.dispatch(rank.dispatch(kAmple));
          } else {
            const Received received = rank.plan.dispatch(args);
            EXPECT_FALSE(received.live()) << "rows in the caller's memory need no slot";
            if (wrong.layout == Layout::kCompact) expect_rows(received, kNumRanks, 0);
          }
          EXPECT_FALSE(rank.group.status().has_value());
          const Received next = rank.plan.dispatch(rank.dispatch(kAmple));
          if (wrong.layout == Layout::kCompact) expect_rows(next, kNumRanks, 0);
        }
      },
      small_shape(kNumRanks, wrong.layout));
}

INSTANTIATE_TEST_SUITE_P(of, wrong_output, testing::ValuesIn(kWrongOutputs),
                         [](const auto& wrong) { return wrong.param.name; });

TEST(bad_dispatch, an_allocate_callback_that_throws_harms_nobody_else) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    for (int round = 0; round < 3; ++round) {
      DispatchArgs args = rank.dispatch(kAmple);
      if (rank.rank == kClumsy) {
        args.allocate = [](const RecvSizes&, std::span<TensorView>) { throw std::length_error("no more tensors"); };
        EXPECT_THROW(rank.plan.dispatch(args), std::length_error);
      } else {
        expect_rows(rank.plan.dispatch(args), kNumRanks, 0);
      }
      EXPECT_FALSE(rank.group.status().has_value());
      expect_round_trip(rank.plan, rank.rank, kNumRanks, round);
    }
  });
}

TEST(bad_dispatch, the_allocate_callback_is_told_the_sizes_of_the_result) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    Scrap scrap;
    RecvSizes told;
    DispatchArgs args = rank.dispatch(kAmple);
    args.allocate = [&](const RecvSizes& sizes, std::span<TensorView> outputs) {
      told = sizes;
      ASSERT_EQ(outputs.size(), 1);
      outputs[0] = tensor(scrap.floats.data(), {sizes.num_tensor_rows + 3, kHidden});
    };
    const Received received = rank.plan.dispatch(args);
    EXPECT_EQ(told.num_recv_rows, received.routing().num_recv_rows());
    EXPECT_EQ(told.num_tensor_rows, told.num_recv_rows);
    EXPECT_EQ(told.num_local_experts, 2);
    EXPECT_EQ(received.lane(0).data, scrap.floats.data());
  });
}

// --- Results ----------------------------------------------------------------------------------------------------------------

TEST(bad_dispatch, results_and_routings_that_are_nobodys_say_so) {
  const Received none;
  EXPECT_FALSE(none.live());
  expect_error([&] { none.lane(0); }, ErrorCode::kStale, "this Received is empty");
  expect_error([&] { none.sizes(); }, ErrorCode::kStale, "this Received is empty");
  expect_error([&] { none.routing(); }, ErrorCode::kStale, "this Received is empty");
  expect_error([&] { none.slot(); }, ErrorCode::kStale, "this Received is empty");
  expect_error([&] { none.combine_buffer(); }, ErrorCode::kStale, "this Received is empty");
  const Routing routing;
  EXPECT_FALSE(routing);
  expect_error([&] { routing.num_tokens(); }, ErrorCode::kStale, "this Routing is empty");
  expect_error([&] { routing.topk_idx(); }, ErrorCode::kStale, "this Routing is empty");
  expect_error([&] { routing.gather_idx(); }, ErrorCode::kStale, "this Routing is empty");
}

TEST(bad_dispatch, lanes_and_buffers_that_a_result_does_not_have_are_refused) {
  for (const Layout layout : {Layout::kCompact, Layout::kExpertContiguous}) {
    run_small_ranks(
        2,
        [&](SmallRank& rank) {
          Received received = rank.plan.dispatch(rank.dispatch(kAmple));
          for (const int lane : {-1, 1})
            expect_error([&] { received.lane(lane); }, kInvalid, "was asked for, and the plan has 1");
          EXPECT_EQ(received.combine_buffer().data == received.lane(0).data, layout == Layout::kCompact);
          const Received moved = std::move(received);
          EXPECT_TRUE(moved.live());
          expect_error([&] { received.lane(0); }, ErrorCode::kStale, "this Received is empty");
          received.release();
          EXPECT_TRUE(moved.live());
        },
        small_shape(2, layout));
  }
}

TEST(bad_dispatch, rows_are_gone_with_the_slot_but_stay_in_the_callers_tensors) {
  for (const Mode mode : {Mode::kThroughput, Mode::kLatency}) {
    Shape shape = small_shape(2);
    shape.mode = mode;
    run_small_ranks(
        2,
        [](SmallRank& rank) {
          Received released = rank.plan.dispatch(rank.dispatch(kAmple));
          released.release();
          expect_error([&] { released.lane(0); }, ErrorCode::kStale, "the rows were in slot 0 and are gone");
          expect_error([&] { released.combine_buffer(); }, ErrorCode::kStale, "the rows were in slot 0 and are gone");

          std::vector<float> memory(1024);
          DispatchArgs args = rank.dispatch(kAmple);
          args.allocate = [&](const RecvSizes& sizes, std::span<TensorView> outputs) {
            outputs[0] = tensor(memory.data(), {sizes.num_tensor_rows, kHidden});
          };
          Received elsewhere = rank.plan.dispatch(args);
          elsewhere.release();
          EXPECT_EQ(elsewhere.lane(0).data, memory.data());
          expect_error([&] { elsewhere.combine_buffer(); }, ErrorCode::kUnsupported, "delivered to the caller's tensors");

          const Received forgotten = rank.plan.dispatch(rank.dispatch(kAmple));
          rank.recover_and_go_on();
          expect_error([&] { forgotten.lane(0); }, ErrorCode::kStale, "the group has recovered");
        },
        shape);
  }
}

}  // namespace
}  // namespace tokenyard::test
