#include "tests/engine/cuda_failure_stories.hpp"

#include <gtest/gtest.h>

#include "tests/base/expect_error.hpp"
#include "tests/support/ample_time.hpp"

namespace tokenyard::test {
namespace {

constexpr std::chrono::milliseconds kShort{200};
const std::chrono::milliseconds kAtOnce = ample_time() / 6;  // where nobody waits for a deadline

void expect_failure(const std::optional<Failure>& failure, ErrorCode code, Phase phase, int culprit) {
  ASSERT_TRUE(failure.has_value());
  EXPECT_STREQ(to_string(failure->code), to_string(code));
  EXPECT_STREQ(to_string(failure->phase), to_string(phase));
  EXPECT_EQ(failure->culprit, culprit);
}

// The same placement of two experts per rank, and one with the first two exchanged.
PlacementTable placement(int num_ranks, bool exchanged) {
  PlacementTable table;
  for (int rank = 0; rank < num_ranks; ++rank) table.experts_of.push_back({2 * rank, 2 * rank + 1});
  if (exchanged) std::swap(table.experts_of[0][0], table.experts_of[0][1]);
  return table;
}

}  // namespace

const std::vector<CudaSilence>& cuda_silences() {
  static const std::vector<CudaSilence> silences{{"sized_dispatch", CudaCall::kSizedDispatch, Phase::kDispatchCounts},
                                                 {"capacity_dispatch", CudaCall::kCapacityDispatch, Phase::kDispatchCounts},
                                                 {"cached_dispatch", CudaCall::kCachedDispatch, Phase::kDispatchFree},
                                                 {"combine", CudaCall::kCombine, Phase::kCombineFree},
                                                 {"combine_in_place", CudaCall::kCombineInPlace, Phase::kCombineRows}};
  return silences;
}

const std::vector<CudaSilence>& cuda_silences_by_engines() {
  static const std::vector<CudaSilence> silences{
      {"sized_dispatch", CudaCall::kSizedDispatch, Phase::kDispatchCounts, Copies::kEngine},
      {"cached_dispatch", CudaCall::kCachedDispatch, Phase::kDispatchFree, Copies::kEngine},
      {"combine_in_place", CudaCall::kCombineInPlace, Phase::kCombineRows, Copies::kEngine}};
  return silences;
}

void rank_0_keeps_silent(CudaSmallRank& rank, const CudaSilence& silence) {
  const bool sized = silence.call == CudaCall::kSizedDispatch;
  const bool by_engines = silence.copies == Copies::kEngine;  // which need sizes that the host knows
  const Plan& plan = sized || by_engines ? rank.plan : rank.capacity_plan;
  // So that both slots have grown, and the silent rank is not missed in that already.
  if (by_engines) plan.dispatch(rank.dispatch(kAmple)).release();
  Received received = plan.dispatch(rank.dispatch(kAmple));
  const Routing routing = received.routing();
  const TensorView lane = received.lane(0);
  const ConstTensorView rows_elsewhere = rank.zeros({lane.shape[0], kHidden});
  rank.finish();
  const auto call = [&](std::chrono::milliseconds timeout) {
    return error_of([&] {
      switch (silence.call) {
        case CudaCall::kSizedDispatch:
        case CudaCall::kCapacityDispatch: {
          DispatchArgs args = rank.dispatch(timeout);
          args.execution.copies = silence.copies;
          plan.dispatch(args);
          break;
        }
        case CudaCall::kCachedDispatch: {
          DispatchArgs args = rank.cached(routing, timeout);
          args.execution.copies = silence.copies;
          plan.dispatch(args);
          break;
        }
        case CudaCall::kCombine: plan.combine(rank.combine(routing, rows_elsewhere, timeout)); break;
        case CudaCall::kCombineInPlace: {
          CombineArgs args = rank.combine(routing, lane, timeout);
          args.execution.copies = silence.copies;
          plan.combine(args);
          break;
        }
      }
    });
  };
  rank.meet();
  if (rank.rank != 0) {
    const Deadline watch(1h);
    const auto error = call(kShort);
    rank.finish();
    EXPECT_LT(watch.elapsed(), kShort + kAtOnce);
    EXPECT_TRUE(error.has_value() || !sized) << "nobody can know how many rows come";
    if (error) expect_failure(error->failure(), ErrorCode::kTimeout, silence.phase, 0);
    expect_failure(rank.group.status(), ErrorCode::kTimeout, silence.phase, 0);
  }
  rank.meet();

  // Whoever calls next is told at once, the silent rank too, and about the same failure.
  const Deadline watch(1h);
  for (int repetition = 0; repetition < 2; ++repetition) {
    const auto error = call(kAmple);
    ASSERT_TRUE(error.has_value());
    expect_failure(error->failure(), ErrorCode::kTimeout, silence.phase, 0);
  }
  rank.finish();
  EXPECT_LT(watch.elapsed(), kAtOnce);
  expect_failure(rank.group.status(), ErrorCode::kTimeout, silence.phase, 0);
  EXPECT_THROW(rank.group.window(8), Error);
  EXPECT_THROW(rank.group.plan(rank.plan.shape()), Error);

  rank.recover_and_go_on();

  EXPECT_FALSE(received.live()) << "results from before are over";
  expect_error([&] { plan.dispatch(rank.cached(routing, kAmple)); }, ErrorCode::kStale, "made before the group recovered");
  expect_error([&] { plan.combine(rank.combine(routing, rows_elsewhere, kAmple)); }, ErrorCode::kStale,
               "made before the group recovered");
  received.release();
  rank.expect_sum_of(rank.plan);
  rank.expect_sum_of(rank.capacity_plan);
  rank.meet();
}

void rank_1_gives_a_bad_id(CudaSmallRank& rank, const Plan& plan, std::int32_t id) {
  const bool sized = plan.shape().overflow == Overflow::kGrow;
  DispatchArgs args = rank.dispatch(kAmple);
  if (rank.rank == 1) args.topk_idx = rank.ids_with(7, id);
  rank.meet();
  const Deadline watch(1h);
  Received received;
  const auto error = error_of([&] { received = plan.dispatch(args); });
  rank.finish();
  EXPECT_LT(watch.elapsed(), kAtOnce) << "nobody waits for the deadline";
  // A rank that comes late is refused, and where the host waits for sizes it is told there.
  EXPECT_TRUE(error.has_value() || !sized);
  if (error) expect_failure(error->failure(), ErrorCode::kInvalidArgument, Phase::kDispatchCounts, 1);
  expect_failure(rank.group.status(), ErrorCode::kInvalidArgument, Phase::kDispatchCounts, 1);
  if (!error) {
    EXPECT_EQ(received.routing().num_recv_rows(), 0) << "nothing is delivered";
  }
  rank.recover_and_go_on();
}

// All ranks have two results, of slots 0 and 1, alive.
struct CudaDisagreement::Stage {
  CudaSmallRank& rank;
  Received& first;
  Received& second;
  std::chrono::milliseconds timeout;
};

namespace {

using Stage = CudaDisagreement::Stage;

void dispatch_into(int slot, const Stage& stage, DispatchArgs args) {
  (slot == 0 ? stage.first : stage.second).release();
  args.slot = slot;
  stage.rank.plan.dispatch(args);
}

void dispatch_cached(const Received& from, const Stage& stage) {
  const Routing routing = from.routing();
  dispatch_into(0, stage, stage.rank.cached(routing, stage.timeout));
}

void combine_from(const Received& from, int slot, bool with_weights, const Stage& stage) {
  const Routing routing = from.routing();
  CombineArgs args = stage.rank.combine(routing, from.lane(0), stage.timeout);
  args.slot = slot;
  if (with_weights) {
    args.carried_weights = stage.rank.zeros({routing.num_recv_rows(), kTopK});
    args.returned_weights = stage.rank.zeros({args.output.shape[0], kTopK});
  }
  stage.rank.plan.combine(args);
}

void dispatch(const Stage& stage) { dispatch_into(0, stage, stage.rank.dispatch(stage.timeout)); }
void dispatch_into_slot_1(const Stage& stage) { dispatch_into(1, stage, stage.rank.dispatch(stage.timeout)); }
void dispatch_with_weights(const Stage& stage) { dispatch_into(0, stage, stage.rank.dispatch_with_weights(stage.timeout)); }
void dispatch_with_another_placement(const Stage& stage) {
  stage.rank.plan.place(placement(stage.rank.num_ranks, true));
  dispatch(stage);
}
void cached_first(const Stage& stage) { dispatch_cached(stage.first, stage); }
void cached_second(const Stage& stage) { dispatch_cached(stage.second, stage); }
void combine_first(const Stage& stage) { combine_from(stage.first, 0, false, stage); }
void combine_second(const Stage& stage) { combine_from(stage.second, 0, false, stage); }
void combine_into_slot_1(const Stage& stage) { combine_from(stage.first, 1, false, stage); }
void combine_with_weights(const Stage& stage) { combine_from(stage.first, 0, true, stage); }

}  // namespace

// What a rank waits for tells kernels nothing about its peers' other calls: those are a deadline's affair.
const std::vector<CudaDisagreement>& cuda_disagreements() {
  static const std::vector<CudaDisagreement> disagreements{
      {"dispatch_or_cached", dispatch, cached_first, ErrorCode::kDisagreement},
      {"dispatch_or_combine", dispatch, combine_first, ErrorCode::kTimeout},
      {"routings_of_cached", cached_first, cached_second, ErrorCode::kDisagreement},
      {"routings_of_combine", combine_first, combine_second, ErrorCode::kDisagreement},
      {"weights_of_dispatch", dispatch, dispatch_with_weights, ErrorCode::kDisagreement},
      {"weights_of_combine", combine_first, combine_with_weights, ErrorCode::kDisagreement},
      {"placement", dispatch, dispatch_with_another_placement, ErrorCode::kDisagreement},
      {"slots_of_dispatch", dispatch, dispatch_into_slot_1, ErrorCode::kTimeout},
      {"slots_of_combine", combine_first, combine_into_slot_1, ErrorCode::kTimeout}};
  return disagreements;
}

void rank_1_makes_another_call(CudaSmallRank& rank, const CudaDisagreement& disagreement) {
  DispatchArgs args = rank.dispatch(kAmple);
  args.slot = 0;
  Received first = rank.plan.dispatch(args);
  args.slot = 1;
  Received second = rank.plan.dispatch(args);
  rank.finish();
  rank.meet();
  const bool at_once = disagreement.code == ErrorCode::kDisagreement;
  const Stage stage{rank, first, second, at_once ? kAmple : kShort};
  const Deadline watch(1h);
  const auto error = error_of([&] { (rank.rank == 1 ? disagreement.of_rank_1 : disagreement.of_others)(stage); });
  rank.finish();
  EXPECT_LT(watch.elapsed(), kShort + kAtOnce);
  const std::optional<Failure> failure = rank.group.status();
  ASSERT_TRUE(failure.has_value());
  EXPECT_STREQ(to_string(failure->code), to_string(disagreement.code));
  EXPECT_NE(failure->culprit, failure->reporter);
  EXPECT_TRUE(failure->culprit == 1 || failure->reporter == 1)
      << "rank " << failure->reporter << " about rank " << failure->culprit;
  if (error) {
    EXPECT_STREQ(to_string(error->code()), to_string(disagreement.code)) << error->what();
  }
  rank.plan.place(placement(rank.num_ranks, false));
  rank.recover_and_go_on();
}

}  // namespace tokenyard::test
