// Deadlines that pass: who is told what, for how long, and how to go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::chrono::milliseconds kShort{60};

void expect_failure(const std::optional<Error>& error, ErrorCode code, Phase phase, int culprit) {
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), code) << error->what();
  EXPECT_EQ(error->failure().code, code) << error->what();
  EXPECT_EQ(error->failure().phase, phase) << error->what();
  EXPECT_EQ(error->failure().culprit, culprit) << error->what();
}

enum class Call { kDispatch, kCachedDispatch, kCombine };

struct Silence {
  const char* name;
  Call call;
  int num_ranks;
  int silent;
  Phase phase;
};

class silent_rank : public testing::TestWithParam<Silence> {};

// The whole life of a failure, whatever the call in which one rank keeps silent.
TEST_P(silent_rank, is_named_to_everybody_until_the_group_recovers) {
  const Silence& silence = GetParam();
  run_small_ranks(silence.num_ranks, [&](SmallRank& rank) {
    Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    SmallOutput output(rank.input);
    const auto call = [&] {
      switch (silence.call) {
        case Call::kDispatch: rank.plan.dispatch(rank.dispatch(kShort)); break;
        case Call::kCachedDispatch: rank.plan.dispatch(rank.cached(received.routing(), kShort)); break;
        case Call::kCombine: rank.plan.combine(combine_of(output, received, kShort)); break;
      }
    };
    rank.meet();
    const Deadline watch(1h);
    if (rank.rank != silence.silent) {
      const auto error = error_of(call);
      expect_failure(error, ErrorCode::kTimeout, silence.phase, silence.silent);
      EXPECT_LT(watch.elapsed(), kShort + 5s);
      const std::string silent = std::to_string(silence.silent);
      if (error->failure().reporter == rank.rank) {
        EXPECT_THAT(error->what(), AllOf(HasSubstr("rank " + std::to_string(rank.rank) + " waited"),
                                         HasSubstr("for rank " + silent + " in " + to_string(silence.phase)),
                                         HasSubstr("plan 0, slot"), HasSubstr("expected turn")));
      } else {
        EXPECT_THAT(error->what(), HasSubstr("reported timeout of rank " + silent + " in " + to_string(silence.phase)));
      }
    }
    rank.meet();

    // Whoever calls next is told at once, the silent rank too, and about the same failure.
    for (int repetition = 0; repetition < 2; ++repetition) {
      expect_failure(error_of(call), ErrorCode::kTimeout, silence.phase, silence.silent);
    }
    ASSERT_TRUE(rank.group.status().has_value());
    EXPECT_EQ(rank.group.status()->culprit, silence.silent);
    EXPECT_EQ(rank.group.status()->phase, silence.phase);
    expect_failure(error_of([&] { rank.group.window(8); }), ErrorCode::kTimeout, silence.phase, silence.silent);
    expect_failure(error_of([&] { rank.group.plan(rank.plan.shape()); }), ErrorCode::kTimeout, silence.phase, silence.silent);

    rank.recover_and_go_on();

    EXPECT_FALSE(received.live()) << "results from before are over";
    expect_error([&] { rank.plan.dispatch(rank.cached(received.routing(), kAmple)); }, ErrorCode::kStale,
                 "made before the group recovered");
    const std::vector<float> rows(1024);
    const CombineArgs args =
        output.combine(received.routing(), tensor(rows.data(), {received.routing().num_recv_rows(), kHidden}));
    expect_error([&] { rank.plan.combine(args); }, ErrorCode::kStale, "made before the group recovered");
    received.release();
    expect_round_trip(rank.plan, rank.rank, rank.num_ranks, 30);
    expect_round_trip(rank.plan, rank.rank, rank.num_ranks, 31);
    rank.meet();
  });
}

INSTANTIATE_TEST_SUITE_P(in, silent_rank,
                         testing::Values(Silence{"dispatch_of_2", Call::kDispatch, 2, 0, Phase::kDispatchCounts},
                                         Silence{"dispatch_of_4_first", Call::kDispatch, 4, 0, Phase::kDispatchCounts},
                                         Silence{"dispatch_of_4_last", Call::kDispatch, 4, 3, Phase::kDispatchCounts},
                                         Silence{"cached_dispatch", Call::kCachedDispatch, 3, 1, Phase::kDispatchRows},
                                         Silence{"combine_of_2", Call::kCombine, 2, 1, Phase::kCombineRows},
                                         Silence{"combine_of_4", Call::kCombine, 4, 2, Phase::kCombineRows}),
                         [](const auto& silence) { return silence.param.name; });

TEST(failures, a_rank_that_holds_its_result_too_long_is_named_by_those_who_need_the_slot) {
  run_small_ranks(3, [](SmallRank& rank) {
    Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    if (rank.rank != 1) {
      received.release();
      DispatchArgs args = rank.dispatch(kShort);
      args.slot = received.slot();
      const auto error = error_of([&] { rank.plan.dispatch(args); });
      expect_failure(error, ErrorCode::kTimeout, Phase::kDispatchFree, 1);
      rank.meet();
    } else {
      rank.meet();
      expect_rows(received, 3, 0);
    }
    rank.recover_and_go_on();
  });
}

TEST(failures, the_last_of_a_chain_of_waits_is_the_culprit_of_all) {
  run_small_ranks(3, [](SmallRank& rank) {
    // Rank 1 needs the slot that rank 2 holds, and rank 2 waits for rank 0, which does nothing.
    Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    if (rank.rank == 1) received.release();
    rank.meet();
    std::optional<Error> error;
    if (rank.rank == 1) {
      DispatchArgs args = rank.dispatch(300ms);
      args.slot = 0;
      error = error_of([&] { rank.plan.dispatch(args); });
    } else if (rank.rank == 2) {
      DispatchArgs args = rank.dispatch(kAmple);
      args.slot = 1;
      error = error_of([&] { rank.plan.dispatch(args); });
    }
    rank.meet();
    if (rank.rank == 0) error = error_of([&] { rank.plan.dispatch(rank.dispatch(kAmple)); });
    expect_failure(error, ErrorCode::kTimeout, Phase::kDispatchFree, 0);
    if (rank.rank == 1) {
      EXPECT_THAT(error->what(), HasSubstr("for rank 2 in dispatch/free"));
      EXPECT_THAT(error->what(), HasSubstr("rank 2 itself waits for rank 0 in dispatch/counts; rank 0 waits for nobody"));
    }
    received.release();
    rank.recover_and_go_on();
  });
}

TEST(failures, a_failure_ends_waits_on_windows_and_on_other_plans) {
  run_small_ranks(3, [](SmallRank& rank) {
    const Plan other = rank.group.plan(small_shape(3));
    const Window window = rank.group.window(8);
    rank.meet();
    std::optional<Error> error;
    if (rank.rank == 0) error = error_of([&] { window.wait(0, Compare::kEqual, 1); });
    if (rank.rank == 1) error = error_of([&] { rank.plan.dispatch(rank.dispatch(kShort)); });
    if (rank.rank == 2) error = error_of([&] { other.dispatch(rank.dispatch(kAmple)); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->failure().reporter, 1) << error->what();
    rank.recover_and_go_on();
    expect_round_trip(other, rank.rank, 3, 9);
    rank.meet();
  });
}

TEST(failures, waits_of_several_threads_are_not_mistaken_for_a_disagreement) {
  run_small_ranks(2, [](SmallRank& rank) {
    // On each rank one thread works with one plan and is late with the other, crosswise.
    const Plan first = rank.group.plan(small_shape(2));
    const Plan second = rank.group.plan(small_shape(2));
    const auto exchange_with = [&](const Plan& plan, std::chrono::milliseconds timeout) {
      return error_of([&] { plan.dispatch(rank.dispatch(timeout)); });
    };
    // Both threads of both ranks wait at the same time at least once.
    if (rank.rank == 1) std::this_thread::sleep_for(50ms);
    {
      std::thread other([&] { exchange_with(second, kAmple); });
      exchange_with(first, kAmple);
      other.join();
    }
    rank.meet();
    if (rank.rank == 1) std::this_thread::sleep_for(50ms);
    std::optional<Error> error = exchange_with(rank.rank == 0 ? first : second, rank.rank == 0 ? 300ms : kAmple);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
    rank.recover_and_go_on();
  });
}

TEST(failures, a_late_rank_is_told_even_if_it_comes_after_all_others_gave_up) {
  run_small_ranks(3, [](SmallRank& rank) {
    if (rank.rank != 2) {
      EXPECT_THROW(rank.plan.dispatch(rank.dispatch(kShort)), Error);
    }
    rank.meet();
    if (rank.rank == 2) {
      const auto error = error_of([&] { rank.plan.dispatch(rank.dispatch(kAmple)); });
      expect_failure(error, ErrorCode::kTimeout, Phase::kDispatchCounts, 2);
      EXPECT_THAT(error->what(), HasSubstr("Group::recover() or a new group is needed"));
    }
    rank.recover_and_go_on();
  });
}

TEST(failures, groups_recover_as_often_as_they_fail) {
  run_small_ranks(2, [](SmallRank& rank) {
    for (int round = 0; round < 5; ++round) {
      const int silent = round % 2;
      if (rank.rank != silent) {
        const auto error = error_of([&] { rank.plan.dispatch(rank.dispatch(10ms)); });
        expect_failure(error, ErrorCode::kTimeout, Phase::kDispatchCounts, silent);
      }
      rank.recover_and_go_on();
    }
  });
}

TEST(failures, ranks_that_met_elsewhere_when_the_group_failed_recover_with_the_others) {
  run_small_ranks(3, [](SmallRank& rank) {
    std::optional<Error> error;
    if (rank.rank == 0) error = error_of([&] { rank.group.barrier(); });
    if (rank.rank == 1) error = error_of([&] { rank.plan.dispatch(rank.dispatch(kShort)); });
    if (rank.rank == 2) {
      while (!rank.group.status().has_value()) std::this_thread::sleep_for(1ms);
      error = error_of([&] { rank.plan.dispatch(rank.dispatch(kShort)); });
    }
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->failure().reporter, 1) << error->what();
    rank.group.recover();
    expect_round_trip(rank.plan, rank.rank, 3, 1);
    rank.meet();
  });
}

TEST(failures, recovering_without_a_failure_only_makes_old_results_stale) {
  run_small_ranks(2, [](SmallRank& rank) {
    const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
    rank.recover_and_go_on();
    EXPECT_FALSE(received.live());
    expect_error([&] { rank.plan.dispatch(rank.cached(received.routing(), kAmple)); }, ErrorCode::kStale, "recovered");
    rank.meet();
  });
}

TEST(failures, slots_that_had_grown_or_were_about_to_grow_work_after_a_recovery) {
  Shape shape = small_shape(3);
  shape.recv_capacity = 1;  // every dispatch of the small layer needs more
  run_small_ranks(
      3,
      [](SmallRank& rank) {
        for (int round = 0; round < 4; ++round) {
          // Rank 2 keeps silent before the growth in one round, and after it in the next.
          if (round % 2 == 1) expect_round_trip(rank.plan, rank.rank, 3, round);
          rank.meet();
          if (rank.rank != 2) {
            EXPECT_THROW(rank.plan.dispatch(rank.dispatch(20ms)), Error);
          }
          rank.recover_and_go_on();
        }
      },
      shape);
}

TEST(failures, a_rank_that_leaves_in_the_middle_is_lost_to_every_call) {
  for (const Call call : {Call::kDispatch, Call::kCachedDispatch, Call::kCombine}) {
    MeetingPoint meeting_point(3);
    run_thread_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
      std::optional<SmallRank> rank(std::in_place, std::move(exchange), &meeting_point, small_shape(3));
      Received received = rank->plan.dispatch(rank->dispatch(kAmple));
      if (rank->rank == 0) {
        received = Received();
        rank.reset();
        return;
      }
      SmallOutput output(rank->input);
      const auto error = error_of([&] {
        if (call == Call::kDispatch) rank->plan.dispatch(rank->dispatch(kAmple));
        if (call == Call::kCachedDispatch) rank->plan.dispatch(rank->cached(received.routing(), kAmple));
        if (call == Call::kCombine) rank->plan.combine(combine_of(output, received, kAmple));
      });
      constexpr Phase kPhases[] = {Phase::kDispatchCounts, Phase::kDispatchRows, Phase::kCombineRows};
      expect_failure(error, ErrorCode::kPeerLost, kPhases[static_cast<int>(call)], 0);
      EXPECT_THROW(rank->group.recover(), Error) << "there is nobody to recover with";
    });
  }
}

}  // namespace
}  // namespace tokenyard::test
