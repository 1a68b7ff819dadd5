// Ranks that make different calls: all are told so, and who the two are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr int kNumRanks = 3;

// What a rank can call when all of them have two results, of slots 0 and 1, alive.
struct Stage {
  SmallRank& rank;
  Received& first;
  Received& second;
  std::chrono::milliseconds timeout;
};

using Call = std::function<void(const Stage&)>;

void dispatch_into(int slot, const Stage& stage) {
  (slot == 0 ? stage.first : stage.second).release();
  DispatchArgs args = stage.rank.dispatch(stage.timeout);
  args.slot = slot;
  stage.rank.plan.dispatch(args);
}

void dispatch_cached(const Received& from, const Stage& stage) {
  const Routing routing = from.routing();
  stage.first.release();
  DispatchArgs args = stage.rank.cached(routing, stage.timeout);
  args.slot = 0;
  stage.rank.plan.dispatch(args);
}

void combine_from(const Received& from, int slot, bool with_weights, const Stage& stage) {
  SmallOutput output(stage.rank.input);
  CombineArgs args = combine_of(output, from, stage.timeout);
  args.slot = slot;
  std::vector<float> carried(static_cast<std::size_t>(from.routing().num_recv_rows()) * kTopK);
  std::vector<float> returned(static_cast<std::size_t>(stage.rank.input.num_tokens) * kTopK);
  if (with_weights) {
    args.carried_weights = tensor(std::as_const(carried).data(), {from.routing().num_recv_rows(), kTopK});
    args.returned_weights = tensor(returned.data(), {stage.rank.input.num_tokens, kTopK});
  }
  stage.rank.plan.combine(args);
}

const Call kDispatch = [](const Stage& stage) { dispatch_into(0, stage); };
const Call kDispatchIntoSlot1 = [](const Stage& stage) { dispatch_into(1, stage); };
const Call kDispatchWithWeights = [](const Stage& stage) {
  stage.first.release();
  DispatchArgs args = stage.rank.dispatch(stage.timeout);
  args.topk_weights = tensor(stage.rank.input.weights.data(), {stage.rank.input.num_tokens, kTopK});
  args.slot = 0;
  stage.rank.plan.dispatch(args);
};
const Call kDispatchWithOtherPlacement = [](const Stage& stage) {
  stage.rank.plan.place({{{1, 0}, {2, 3}, {4, 5}}});
  dispatch_into(0, stage);
};
const Call kCachedFirst = [](const Stage& stage) { dispatch_cached(stage.first, stage); };
const Call kCachedSecond = [](const Stage& stage) { dispatch_cached(stage.second, stage); };
const Call kCombineFirst = [](const Stage& stage) { combine_from(stage.first, 0, false, stage); };
const Call kCombineSecond = [](const Stage& stage) { combine_from(stage.second, 0, false, stage); };
const Call kCombineIntoSlot1 = [](const Stage& stage) { combine_from(stage.first, 1, false, stage); };
const Call kCombineWithWeights = [](const Stage& stage) { combine_from(stage.first, 0, true, stage); };

struct Disagreement {
  const char* name;
  Call of_others;
  Call of_rank_1;
  // What the one who noticed says, seen from the others or from rank 1.
  const char* others_say;
  const char* rank_1_says;
};

constexpr const char* kWaitForEachOther = "they wait for each other, because their calls came in different orders";

const Disagreement kDisagreements[] = {
    {"dispatch_or_cached", kDispatch, kCachedFirst, "this rank calls dispatch, the other cached dispatch",
     "this rank calls cached dispatch, the other dispatch"},
    {"dispatch_or_combine", kDispatch, kCombineFirst, kWaitForEachOther, kWaitForEachOther},
    {"cached_or_combine", kCachedFirst, kCombineFirst, kWaitForEachOther, kWaitForEachOther},
    {"routings_of_cached", kCachedFirst, kCachedSecond,
     "this rank works from Routing 1000000000001, the other from 1000000000002",
     "this rank works from Routing 1000000000002, the other from 1000000000001"},
    {"routings_of_combine", kCombineFirst, kCombineSecond, "this rank works from Routing", "this rank works from Routing"},
    {"weights_of_dispatch", kDispatch, kDispatchWithWeights, "this rank gives no weights, the other does",
     "this rank gives weights, the other none"},
    {"weights_of_combine", kCombineFirst, kCombineWithWeights, "this rank gives no weights, the other does",
     "this rank gives weights, the other none"},
    {"placement", kDispatch, kDispatchWithOtherPlacement, "their placements differ", "their placements differ"},
    {"slots_of_dispatch", kDispatch, kDispatchIntoSlot1, kWaitForEachOther, kWaitForEachOther},
    {"slots_of_combine", kCombineFirst, kCombineIntoSlot1, kWaitForEachOther, kWaitForEachOther},
};

class disagreeing_ranks : public testing::TestWithParam<Disagreement> {};

TEST_P(disagreeing_ranks, are_all_told_and_who_the_two_are) {
  const Disagreement& disagreement = GetParam();
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    Received first = rank.plan.dispatch(rank.dispatch(kAmple));
    Received second = rank.plan.dispatch(rank.dispatch(kAmple));
    rank.meet();
    const Stage stage{rank, first, second, 150ms};
    const Deadline watch(1h);
    const auto error = error_of([&] { (rank.rank == 1 ? disagreement.of_rank_1 : disagreement.of_others)(stage); });
    EXPECT_LT(watch.elapsed(), 150ms + 5s);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement) << error->what();
    const Failure& failure = error->failure();
    EXPECT_NE(failure.culprit, failure.reporter) << error->what();
    EXPECT_TRUE(failure.culprit == 1 || failure.reporter == 1) << error->what();
    if (failure.reporter == rank.rank) {
      EXPECT_THAT(error->what(), HasSubstr(rank.rank == 1 ? disagreement.rank_1_says : disagreement.others_say));
      EXPECT_THAT(error->what(), HasSubstr("rank " + std::to_string(failure.culprit)));
    } else {
      EXPECT_THAT(error->what(), HasSubstr("rank " + std::to_string(failure.reporter) + " reported disagreement of rank " +
                                           std::to_string(failure.culprit)));
    }
    EXPECT_EQ(rank.group.status()->code, ErrorCode::kDisagreement);
    rank.plan.place({{{0, 1}, {2, 3}, {4, 5}}});
    rank.recover_and_go_on();
  });
}

INSTANTIATE_TEST_SUITE_P(about, disagreeing_ranks, testing::ValuesIn(kDisagreements),
                         [](const auto& disagreement) { return disagreement.param.name; });

TEST(disagreements, about_the_order_of_plans_are_reported_by_all) {
  run_small_ranks(2, [](SmallRank& rank) {
    const Plan other = rank.group.plan(small_shape(2));
    const auto error = error_of([&] { (rank.rank == 0 ? rank.plan : other).dispatch(rank.dispatch(100ms)); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement) << error->what();
    EXPECT_THAT(error->what(), AnyOf(HasSubstr(kWaitForEachOther), HasSubstr("reported disagreement of rank")));
    rank.recover_and_go_on();
    expect_round_trip(other, rank.rank, 2, 0);
  });
}

TEST(disagreements, about_what_is_done_after_a_failure_are_noticed_too) {
  run_small_ranks(2, [](SmallRank& rank) {
    // Rank 1 would recover where rank 0 only meets: neither is let through.
    expect_error([&] { rank.rank == 0 ? rank.group.barrier() : rank.group.recover(); }, ErrorCode::kDisagreement,
                 rank.rank == 0 ? "rank 0 calls Group::barrier and rank 1 Group::recover"
                                : "rank 1 calls Group::recover and rank 0 Group::barrier");
    expect_round_trip(rank.plan, rank.rank, 2, 0);
  });
}

}  // namespace
}  // namespace tokenyard::test
