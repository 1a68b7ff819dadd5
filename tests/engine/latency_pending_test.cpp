// Calls in halves: what can be asked between them, and what becomes of halves that nobody completes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"
#include "tests/support/process_state.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;
constexpr int kLate = 1;  // the rank for which the others wait

template <class Condition>
void wait_until(Condition condition) {
  const Deadline limit(kAmple);
  while (!condition() && !limit.passed()) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(condition());
}

void run_latency_ranks(const std::function<void(SmallRank&)>& body, Layout layout = Layout::kCompact) {
  run_small_ranks(kNumRanks, body, latency_shape(kNumRanks, layout));
}

// All but the late rank begin, look that nothing is done, and wait once the late one has begun too.
template <class Begin>
auto begin_late(SmallRank& rank, Begin begin) {
  if (rank.rank == kLate) {
    rank.meet();
    return begin();
  }
  auto pending = begin();
  EXPECT_FALSE(pending.done());
  EXPECT_FALSE(pending.wait(2ms));
  rank.meet();
  EXPECT_TRUE(pending.wait(kAmple));
  EXPECT_TRUE(pending.done());
  return pending;
}

TEST(pending, is_done_when_the_last_peer_has_sent) {
  run_latency_ranks([](SmallRank& rank) {
    for (int round = 0; round < 3; ++round) {
      PendingDispatch dispatch = begin_late(rank, [&] { return rank.plan.begin_dispatch(rank.dispatch(kAmple)); });
      const Received received = dispatch.complete();
      expect_rows(received, kNumRanks, 0);
      EXPECT_TRUE(dispatch.done());
      expect_error([&] { dispatch.complete(); }, ErrorCode::kStale, "this call has been completed already");

      SmallOutput output(rank.input);
      const CombineArgs args = combine_of(output, received, kAmple);
      PendingCombine combine = begin_late(rank, [&] { return rank.plan.begin_combine(args); });
      combine.complete();
      output.expect_sum(rank.input, kNumRanks);
      expect_error([&] { combine.complete(); }, ErrorCode::kStale, "this call has been completed already");
      rank.meet();
    }
  });
}

TEST(pending, halves_of_throughput_mode_leave_room_for_other_calls_too) {
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    const SmallInput second(rank.rank, kNumRanks, 1);
    PendingDispatch first_half = rank.plan.begin_dispatch(rank.dispatch(kAmple));
    const Received other = rank.plan.dispatch(second.dispatch());
    const Received received = first_half.complete();
    expect_rows(received, kNumRanks, 0);
    expect_rows(other, kNumRanks, 1);
    SmallOutput outputs[] = {SmallOutput(rank.input), SmallOutput(second)};
    PendingCombine combine = rank.plan.begin_combine(combine_of(outputs[0], received, kAmple));
    rank.plan.combine(combine_of(outputs[1], other, kAmple));
    combine.complete();
    outputs[0].expect_sum(rank.input, kNumRanks);
    outputs[1].expect_sum(second, kNumRanks);
  });
}

TEST(pending, calls_back_once_from_another_thread_when_done) {
  run_latency_ranks([](SmallRank& rank) {
    std::atomic<int> num_calls{0};
    std::atomic<bool> came_too_early{false};
    std::thread::id caller;
    PendingDispatch pending = begin_late(rank, [&] {
      PendingDispatch begun = rank.plan.begin_dispatch(rank.dispatch(kAmple));
      begun.on_done([&] {
        caller = std::this_thread::get_id();
        ++num_calls;
      });
      if (rank.rank != kLate && num_calls != 0) came_too_early = true;
      return begun;
    });
    wait_until([&] { return num_calls == 1; });
    EXPECT_FALSE(came_too_early);
    EXPECT_NE(caller, std::this_thread::get_id());
    // Also for a call that is done already.
    pending.on_done([&] { ++num_calls; });
    wait_until([&] { return num_calls == 2; });
    expect_rows(pending.complete(), kNumRanks, 0);
    EXPECT_EQ(num_calls, 2);
    rank.meet();
  });
}

TEST(pending, calls_back_when_the_timeout_has_passed_and_can_still_be_completed) {
  run_latency_ranks([](SmallRank& rank) {
    std::atomic<bool> called{false};
    std::optional<PendingDispatch> pending;
    if (rank.rank != kLate) {
      pending = rank.plan.begin_dispatch(rank.dispatch(50ms));
      pending->on_done([&] { called = true; });
      wait_until([&] { return called.load(); });
      EXPECT_FALSE(pending->done());
    }
    rank.meet();
    if (rank.rank == kLate) pending = rank.plan.begin_dispatch(rank.dispatch(kAmple));
    EXPECT_TRUE(pending->wait(kAmple));
    expect_rows(pending->complete(), kNumRanks, 0);
    rank.meet();
  });
}

TEST(pending, callbacks_may_hold_the_last_handle_of_the_plan) {
  const int num_threads = count_threads();
  run_thread_ranks(1, [&](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    for (int round = 0; round < 20; ++round) {
      const SmallInput input(0, 1, round);
      std::atomic<bool> called{false};
      {
        auto plan = std::make_shared<Plan>(group.plan(latency_shape(1)));
        PendingDispatch pending = plan->begin_dispatch(input.dispatch());
        expect_rows(pending.complete(), 1, round);
        pending.on_done([plan, &called] { called = true; });
      }
      wait_until([&] { return called.load(); });
    }
    wait_until([&] { return count_threads() <= num_threads + 1; });  // those of the plans have ended
  });
}

TEST(pending, that_nobody_completes_blocks_nobody_but_keeps_its_slot) {
  run_latency_ranks([](SmallRank& rank) {
    const Received held = rank.plan.dispatch(rank.dispatch(kAmple));
    SmallOutput output(rank.input);
    CombineArgs args = combine_of(output, held, kAmple);
    args.slot = 0;
    const Deadline watch(1h);
    {
      PendingDispatch dropped = rank.plan.begin_dispatch(rank.dispatch(kAmple));
      dropped = PendingDispatch();
      PendingCombine dropped_too = rank.plan.begin_combine(args);
    }
    EXPECT_LT(watch.elapsed(), 10s);
    DispatchArgs again = rank.dispatch(kAmple);
    again.slot = 1;
    expect_error([&] { rank.plan.begin_dispatch(again); }, ErrorCode::kInvalidArgument, "slot 1 still holds a live result");
    expect_error([&] { rank.plan.combine(args); }, ErrorCode::kInvalidArgument,
                 "slot 0 still has a combine that was begun: complete it first");
    args.slot = 1;
    rank.plan.combine(args);
    output.expect_sum(rank.input, kNumRanks);
    rank.recover_and_go_on();
  });
}

TEST(pending, is_stale_when_the_group_has_recovered_since) {
  run_latency_ranks([](SmallRank& rank) {
    const Received held = rank.plan.dispatch(rank.dispatch(kAmple));
    SmallOutput output(rank.input);
    PendingCombine combine = rank.plan.begin_combine(combine_of(output, held, kAmple));
    PendingDispatch dispatch = rank.plan.begin_dispatch(rank.dispatch(kAmple));
    rank.recover_and_go_on();
    EXPECT_TRUE(dispatch.done());
    expect_error([&] { dispatch.complete(); }, ErrorCode::kStale, "the group has recovered from a failure");
    expect_error([&] { combine.complete(); }, ErrorCode::kStale, "the group has recovered from a failure");
    EXPECT_EQ(output.values[0], -1.0F) << "nothing was written";
    expect_round_trip(rank.plan, rank.rank, kNumRanks, 7);
    rank.meet();
  });
}

TEST(pending, fails_with_the_group_when_a_rank_keeps_silent) {
  run_latency_ranks([](SmallRank& rank) {
    if (rank.rank != kLate) {
      PendingDispatch pending = rank.plan.begin_dispatch(rank.dispatch(40ms));
      const auto error = error_of([&] { pending.complete(); });
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
      EXPECT_EQ(error->failure().culprit, kLate) << error->what();
      EXPECT_EQ(error->failure().phase, Phase::kDispatchRows) << error->what();
      EXPECT_TRUE(pending.done()) << "there is nothing to wait for";
      EXPECT_TRUE(rank.plan.masked_ranks().empty());
    }
    rank.recover_and_go_on();
  });
}

TEST(pending, that_was_moved_from_or_never_begun_says_so) {
  PendingDispatch dispatch;
  PendingCombine combine;
  expect_error([&] { dispatch.done(); }, ErrorCode::kStale, "this call is empty");
  expect_error([&] { dispatch.wait(1ms); }, ErrorCode::kStale, "this call is empty");
  expect_error([&] { dispatch.on_done([] {}); }, ErrorCode::kStale, "this call is empty");
  expect_error([&] { dispatch.complete(); }, ErrorCode::kStale, "this call is empty");
  expect_error([&] { combine.complete(); }, ErrorCode::kStale, "this call is empty");
}

TEST(pending, refuses_a_callback_that_cannot_be_called) {
  run_latency_ranks([](SmallRank& rank) {
    PendingDispatch pending = rank.plan.begin_dispatch(rank.dispatch(kAmple));
    expect_error([&] { pending.on_done(nullptr); }, ErrorCode::kInvalidArgument, "the callback is empty");
    expect_rows(pending.complete(), kNumRanks, 0);
  });
}

TEST(pending, outputs_that_do_not_fit_are_an_error_of_complete_that_harms_nobody_else) {
  run_latency_ranks([](SmallRank& rank) {
    for (int round = 0; round < 3; ++round) {
      std::vector<float> memory(1024);
      DispatchArgs args = rank.dispatch(kAmple);
      args.allocate = [&](const RecvSizes& sizes, std::span<TensorView> outputs) {
        if (rank.rank == kLate && round == 1) throw std::length_error("no more tensors");
        const std::int64_t num_missing = rank.rank == kLate ? 1 : 0;
        outputs[0] = tensor(memory.data(), {sizes.num_tensor_rows - num_missing, kHidden});
      };
      PendingDispatch pending = rank.plan.begin_dispatch(args);
      if (rank.rank != kLate) {
        expect_rows(pending.complete(), kNumRanks, 0);
      } else if (round == 1) {
        EXPECT_THROW(pending.complete(), std::length_error);
      } else {
        expect_error([&] { pending.complete(); }, ErrorCode::kInvalidArgument, "the output for lane 0 must be");
      }
      EXPECT_FALSE(rank.group.status().has_value());
      expect_round_trip(rank.plan, rank.rank, kNumRanks, round);
    }
    rank.meet();
  });
}

}  // namespace
}  // namespace tokenyard::test
