// Wrong arguments of one rank's combine: a clear error before anything is sent, so that the right call serves all ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;
constexpr int kClumsy = 1;  // the rank that gets it wrong
constexpr std::int64_t kNumTokens = 10;

constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;
constexpr ErrorCode kStale = ErrorCode::kStale;

struct Scrap {
  std::array<float, 4096> floats{};
  std::array<double, 4096> doubles{};
  const Routing empty;
};

// Arguments that are right for the layout, before one of them is spoilt.
struct Attempt {
  SmallRank& rank;
  Received& received;
  Scrap& scrap;
  CombineArgs& args;

  std::int64_t num_rows() const { return args.rows.num_elements() / kHidden; }
};

struct WrongCombine {
  const char* name;
  Layout layout;
  std::function<void(Attempt&)> spoil;
  ErrorCode code;
  const char* text;
};

ConstTensorView floats(const Attempt& attempt, std::initializer_list<std::int64_t> shape) {
  return {attempt.scrap.floats.data(), DataType::kFloat32, shape};
}

ConstTensorView doubles(const Attempt& attempt, std::initializer_list<std::int64_t> shape) {
  return {attempt.scrap.doubles.data(), DataType::kFloat64, shape};
}

TensorView output(const Attempt& attempt, std::initializer_list<std::int64_t> shape) {
  return {attempt.scrap.floats.data(), DataType::kFloat32, shape};
}

void give_weights(Attempt& a, const ConstTensorView& carried, const TensorView& returned) {
  a.args.carried_weights = carried;
  a.args.returned_weights = returned;
}

constexpr Layout kCompact = Layout::kCompact;
constexpr Layout kContiguous = Layout::kExpertContiguous;
constexpr Layout kPadded = Layout::kExpertPadded;

const WrongCombine kWrongCombines[] = {
    {"no_routing", kCompact, [](Attempt& a) { a.args.routing = nullptr; }, kStale, "the Routing is empty"},
    {"empty_routing", kCompact, [](Attempt& a) { a.args.routing = &a.scrap.empty; }, kStale, "the Routing is empty"},

    {"a_stream", kCompact, [](Attempt& a) { a.args.execution.stream = reinterpret_cast<Stream>(a.scrap.floats.data()); },
     ErrorCode::kUnsupported, "set GroupOptions::device"},

    {"no_rows", kCompact, [](Attempt& a) { a.args.rows = {}; }, kInvalid, "rows must be a dense float32 tensor of at least"},
    {"rows_at_null", kCompact, [](Attempt& a) { a.args.rows.data = nullptr; }, kInvalid, "rows is a null pointer"},
    {"rows_of_another_type", kCompact, [](Attempt& a) { a.args.rows = doubles(a, {a.num_rows(), kHidden}); }, kInvalid,
     "rows of 8 elements; given: float64"},
    {"a_row_too_few", kCompact, [](Attempt& a) { a.args.rows = floats(a, {a.num_rows() - 1, kHidden}); }, kInvalid,
     "rows must be"},
    {"rows_of_another_width", kCompact, [](Attempt& a) { a.args.rows = floats(a, {a.num_rows(), kHidden + 8}); }, kInvalid,
     "rows must be"},
    {"rows_that_stand_apart", kCompact, [](Attempt& a) { a.args.rows.strides[0] = 2 * kHidden; }, kInvalid,
     "rows must be a dense"},
    {"rows_whose_elements_stand_apart", kCompact, [](Attempt& a) { a.args.rows.strides[1] = 2; }, kInvalid,
     "rows must be a dense"},
    {"rows_of_one_dimension", kCompact, [](Attempt& a) { a.args.rows = floats(a, {a.num_rows() * kHidden}); }, kInvalid,
     "rows must be"},
    {"rows_of_four_dimensions", kCompact, [](Attempt& a) { a.args.rows = floats(a, {1, 1, a.num_rows(), kHidden}); }, kInvalid,
     "rows must be"},
    {"rows_of_negative_extents", kPadded, [](Attempt& a) { a.args.rows = floats(a, {-2, -96, kHidden}); }, kInvalid,
     "given: float32 [-2, -96, 8]"},

    {"no_output", kCompact, [](Attempt& a) { a.args.output = {}; }, kInvalid, "output"},
    {"output_at_null", kCompact, [](Attempt& a) { a.args.output.data = nullptr; }, kInvalid, "output: null pointer"},
    {"output_of_another_type", kCompact,
     [](Attempt& a) { a.args.output = {a.scrap.doubles.data(), DataType::kFloat64, {kNumTokens, kHidden}}; }, kInvalid,
     "output: elements of type float64 given, float32 expected"},
    {"output_of_fewer_tokens", kCompact, [](Attempt& a) { a.args.output = output(a, {kNumTokens - 1, kHidden}); }, kInvalid,
     "output: shape [9, 8] given, [10, 8] expected"},
    {"output_of_another_width", kCompact, [](Attempt& a) { a.args.output = output(a, {kNumTokens, 2 * kHidden}); }, kInvalid,
     "output: shape [10, 16] given, [10, 8] expected"},
    {"output_whose_elements_stand_apart", kCompact, [](Attempt& a) { a.args.output.strides[1] = 2; }, kInvalid,
     "output: the elements of a row stand 2 apart"},

    {"bias_at_null", kCompact, [](Attempt& a) { a.args.biases[0] = {nullptr, DataType::kFloat32, {kNumTokens, kHidden}}; },
     kInvalid, "a bias: null pointer"},
    {"second_bias_of_another_type", kCompact, [](Attempt& a) { a.args.biases[1] = doubles(a, {kNumTokens, kHidden}); },
     kInvalid, "a bias: elements of type float64 given"},
    {"bias_of_another_shape", kCompact, [](Attempt& a) { a.args.biases[0] = floats(a, {1, kHidden}); }, kInvalid,
     "a bias: shape [1, 8] given, [10, 8] expected"},

    {"factors_at_null", kCompact, [](Attempt& a) { a.args.factors = {nullptr, DataType::kFloat32, {a.num_rows()}}; }, kInvalid,
     "factors is a null pointer"},
    {"factors_of_another_type", kCompact, [](Attempt& a) { a.args.factors = doubles(a, {a.num_rows()}); }, kInvalid,
     "factors must be a dense float32 tensor"},
    {"a_factor_too_few", kCompact, [](Attempt& a) { a.args.factors = floats(a, {a.num_rows() - 1}); }, kInvalid,
     "rows of one value"},
    {"factors_that_stand_apart", kCompact,
     [](Attempt& a) {
       a.args.factors = floats(a, {a.num_rows()});
       a.args.factors.strides[0] = 2;
     },
     kInvalid, "factors must be a dense"},

    {"routing_weights_of_the_compact_layout", kCompact, [](Attempt& a) { a.args.use_routing_weights = true; }, kInvalid,
     "use_routing_weights needs an expert layout"},
    {"routing_weights_that_never_travelled", kContiguous, [](Attempt& a) { a.args.use_routing_weights = true; }, kInvalid,
     "use_routing_weights needs weights, and the dispatch was given no topk_weights"},
    {"routing_weights_and_factors", kContiguous,
     [](Attempt& a) {
       a.args.use_routing_weights = true;
       a.args.factors = floats(a, {a.num_rows()});
     },
     kInvalid, "give either factors or use_routing_weights, not both"},

    {"carried_but_not_returned", kCompact, [](Attempt& a) { give_weights(a, floats(a, {a.num_rows(), kTopK}), {}); }, kInvalid,
     "carried_weights and returned_weights go together: give both or neither"},
    {"returned_but_not_carried", kCompact, [](Attempt& a) { give_weights(a, {}, output(a, {kNumTokens, kTopK})); }, kInvalid,
     "carried_weights and returned_weights go together"},
    {"carried_of_the_wrong_shape", kCompact,
     [](Attempt& a) { give_weights(a, floats(a, {a.num_rows()}), output(a, {kNumTokens, kTopK})); }, kInvalid,
     "carried_weights must be a dense float32 tensor"},
    {"carried_at_null", kContiguous,
     [](Attempt& a) { give_weights(a, {nullptr, DataType::kFloat32, {a.num_rows()}}, output(a, {kNumTokens, kTopK})); },
     kInvalid, "carried_weights is a null pointer"},
    {"returned_of_the_wrong_shape", kCompact,
     [](Attempt& a) { give_weights(a, floats(a, {a.num_rows(), kTopK}), output(a, {kNumTokens, kTopK + 1})); }, kInvalid,
     "returned_weights: shape [10, 3] given, [10, 2] expected"},
    {"returned_at_null", kCompact,
     [](Attempt& a) { give_weights(a, floats(a, {a.num_rows(), kTopK}), {nullptr, DataType::kFloat32, {kNumTokens, kTopK}}); },
     kInvalid, "returned_weights: null pointer"},

    {"slot_2", kCompact, [](Attempt& a) { a.args.slot = 2; }, kInvalid, "slot is 2: it must be 0, 1, or -1 to alternate"},
    {"slot_minus_2", kCompact, [](Attempt& a) { a.args.slot = -2; }, kInvalid, "slot is -2"},
};

class wrong_combine : public testing::TestWithParam<WrongCombine> {};

TEST_P(wrong_combine, is_refused_and_the_right_one_serves_all) {
  const WrongCombine& wrong = GetParam();
  run_small_ranks(
      kNumRanks,
      [&](SmallRank& rank) {
        Received received = rank.plan.dispatch(rank.dispatch(kAmple));
        SmallOutput sum(rank.input);
        for (int repetition = 0; repetition < 3; ++repetition) {
          if (rank.rank == kClumsy) {
            Scrap scrap;
            CombineArgs args = combine_of(sum, received, kAmple);
            Attempt attempt{rank, received, scrap, args};
            wrong.spoil(attempt);
            expect_error([&] { rank.plan.combine(args); }, wrong.code, wrong.text);
            EXPECT_FALSE(rank.group.status().has_value());
          }
          rank.plan.combine(combine_of(sum, received, kAmple));
          if (wrong.layout == kCompact) sum.expect_sum(rank.input, kNumRanks);
        }
      },
      small_shape(kNumRanks, wrong.layout));
}

INSTANTIATE_TEST_SUITE_P(of, wrong_combine, testing::ValuesIn(kWrongCombines),
                         [](const auto& wrong) { return wrong.param.name; });

TEST(bad_combine, rows_in_a_slot_that_holds_them_no_longer_are_stale) {
  for (const Layout layout : {kCompact, kContiguous, kPadded}) {
    run_small_ranks(
        kNumRanks,
        [&](SmallRank& rank) {
          SmallOutput sum(rank.input);
          Received released = rank.plan.dispatch(rank.dispatch(kAmple));
          const CombineArgs from_released = combine_of(sum, released, kAmple);
          released.release();
          expect_error([&] { rank.plan.combine(from_released); }, kStale,
                       "rows lie in slot 0, whose result is no longer live or belongs to another Routing");

          const Received other = rank.plan.dispatch(rank.dispatch(kAmple));
          const Received newer = rank.plan.dispatch(rank.dispatch(kAmple));
          ASSERT_EQ(newer.slot(), 0);
          expect_error([&] { rank.plan.combine(from_released); }, kStale, "rows lie in slot 0");

          rank.plan.combine(combine_of(sum, newer, kAmple));
          if (layout == kCompact) sum.expect_sum(rank.input, kNumRanks);
        },
        small_shape(kNumRanks, layout));
  }
}

TEST(bad_combine, a_plan_that_cannot_sum_says_so) {
  Shape shape = small_shape(kNumRanks);
  shape.lanes[0] = {DataType::kFloat8E4M3, kHidden * 2};
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    const Plan plan = group.plan(shape);
    const SmallInput input(rank, kNumRanks, 0);
    std::vector<std::uint8_t> bytes(kNumTokens * kHidden * 2, 0x38);
    const std::vector<ConstTensorView> lanes{{bytes.data(), DataType::kFloat8E4M3, {kNumTokens, kHidden * 2}}};
    DispatchArgs args = input.dispatch();
    args.lanes = lanes;
    const Received received = plan.dispatch(args);
    expect_error([&] { received.combine_buffer(); }, ErrorCode::kUnsupported, "set Shape::combine to combine");
    CombineArgs sum;
    sum.routing = &received.routing();
    sum.rows = received.lane(0);
    expect_error([&] { plan.combine(sum); }, ErrorCode::kUnsupported,
                 "this plan dispatches float8_e4m3 rows, which cannot be summed: set Shape::combine to combine");
    group.barrier();
  });
}

TEST(bad_combine, a_rank_without_tokens_may_give_empty_tensors_at_null) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    const std::int64_t num_tokens = rank.rank == kClumsy ? 0 : kNumTokens;
    const SmallInput input(rank.rank, kNumRanks, 0, num_tokens);
    DispatchArgs args = input.dispatch();
    const std::vector<ConstTensorView> nothing{{nullptr, DataType::kFloat32, {0, kHidden}}};
    if (num_tokens == 0) {
      args.lanes = nothing;
      args.topk_idx = {nullptr, DataType::kInt32, {0, kTopK}};
    }
    const Received received = rank.plan.dispatch(args);
    SmallOutput sum(input);
    CombineArgs combine = combine_of(sum, received, kAmple);
    if (num_tokens == 0) combine.output = {nullptr, DataType::kFloat32, {0, kHidden}};
    rank.plan.combine(combine);
    sum.expect_sum(input, kNumRanks);
  });
}

TEST(bad_combine, rows_that_homes_read_in_place_stay_until_the_combine_is_complete) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    for (int round = 0; round < 20; ++round) {
      Received received = rank.plan.dispatch(rank.dispatch(kAmple));
      const int slot = received.slot();
      SmallOutput output(rank.input);
      const CombineArgs args = output.combine(received.routing(), received.lane(0));
      const Routing routing = received.routing();
      PendingCombine pending = rank.plan.begin_combine(args);
      received.release();
      DispatchArgs again = rank.cached(routing, kAmple);
      again.slot = slot;
      expect_error([&] { rank.plan.dispatch(again); }, kInvalid, "are still read by a combine that was begun");
      pending.complete();
      output.expect_sum(rank.input, kNumRanks);
      const Received next = rank.plan.dispatch(again);  // the slot has become free on all ranks
      EXPECT_EQ(next.slot(), slot);
    }
  });
}

}  // namespace
}  // namespace tokenyard::test
