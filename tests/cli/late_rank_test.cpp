#include "cli/late_rank.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/cli/synthetic_timeline.hpp"

namespace tokenyard::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// 100 dispatches, one in 2 ms, in which everybody comes up to 200 us late, and as much later as `delay_ns` says.
template <class Delay>
Timeline make_run(int num_ranks, std::uint32_t seed, Delay delay_ns) {
  Timeline timeline = timeline_of_ranks(num_ranks);
  std::mt19937 random(seed);
  std::int64_t now_ns = 0;
  for (int turn = 0; turn < 100; ++turn) {
    std::vector<std::int64_t> arrivals_ns;
    for (int rank = 0; rank < num_ranks; ++rank) {
      arrivals_ns.push_back(now_ns + static_cast<std::int64_t>(random() % 200) * kMicrosecond + delay_ns(rank, turn));
    }
    add_turn(timeline, arrivals_ns);
    now_ns = timeline.span_ns + 1800 * kMicrosecond;
  }
  return timeline;
}

Verdict verdict_of(const Timeline& timeline) { return find_late_ranks(timeline, find_blame(timeline)); }

TEST(late_rank, a_steady_delay_is_named_with_its_evidence) {
  for (const int num_ranks : {2, 3, 4, 16, 64}) {
    const Verdict verdict =
        verdict_of(make_run(num_ranks, 1, [](int rank, int) { return rank == 1 ? 1000 * kMicrosecond : std::int64_t{0}; }));
    EXPECT_EQ(verdict.lateness, Lateness::kSteady) << num_ranks;
    EXPECT_THAT(verdict.ranks, ElementsAre(1));
    EXPECT_EQ(verdict.num_turns, 100);
    EXPECT_EQ(verdict.num_turns_led, 100);
    EXPECT_NEAR(verdict.median_seconds, 1000e-6, 300e-6);
    EXPECT_LT(verdict.own_seconds, verdict.waited_seconds / 10);
    EXPECT_THAT(verdict.sentence, AllOf(StartsWith("Rank 1 is late: "), HasSubstr("in 100 of 100 dispatches, median "),
                                        HasSubstr("rank 1 itself waited"), HasSubstr("outside of Tokenyard")));
  }
}

TEST(late_rank, nobody_stands_out_where_lateness_is_spread_by_chance) {
  for (const int num_ranks : {2, 3, 4, 16}) {
    for (std::uint32_t seed = 1; seed <= 30; ++seed) {
      const Verdict verdict = verdict_of(make_run(num_ranks, seed, [](int, int) { return std::int64_t{0}; }));
      EXPECT_EQ(verdict.lateness, Lateness::kNobody) << num_ranks << " ranks, seed " << seed << ": " << verdict.sentence;
      EXPECT_THAT(verdict.sentence, StartsWith("Nobody stands out"));
    }
  }
}

TEST(late_rank, one_hiccup_makes_nobody_late) {
  const Verdict verdict = verdict_of(
      make_run(4, 1, [](int rank, int turn) { return rank == 3 && turn == 50 ? 100'000 * kMicrosecond : std::int64_t{0}; }));
  EXPECT_EQ(verdict.lateness, Lateness::kNobody) << verdict.sentence;
}

TEST(late_rank, stalls_in_some_turns_are_told_from_steady_lateness) {
  const Verdict verdict = verdict_of(
      make_run(4, 1, [](int rank, int turn) { return rank == 3 && turn % 20 == 7 ? 50'000 * kMicrosecond : std::int64_t{0}; }));
  EXPECT_EQ(verdict.lateness, Lateness::kSometimes) << verdict.sentence;
  EXPECT_THAT(verdict.sentence,
              AllOf(StartsWith("Rank 3 stalls now and then: "), HasSubstr("in 5 of 100 dispatches, median 50.")));
}

TEST(late_rank, turns_without_a_noteworthy_wait_are_no_stalls) {
  // Most turns have no waiting at all, some a trace of it, three much.
  Timeline timeline = timeline_of_ranks(2);
  for (int turn = 0; turn < 100; ++turn) {
    const std::int64_t begin_ns = turn * 100 * kMicrosecond;
    const std::int64_t late_ns = turn % 40 == 5 ? 500 * kMicrosecond : turn % 9 == 0 ? 100 : 0;
    add_turn(timeline, {begin_ns, begin_ns + late_ns});
  }
  const Verdict verdict = verdict_of(timeline);
  EXPECT_EQ(verdict.lateness, Lateness::kSometimes) << verdict.sentence;
  EXPECT_THAT(verdict.sentence, HasSubstr("in 3 of 100 dispatches, median 500 us there"));
}

TEST(late_rank, several_late_ranks_are_named_together) {
  const Verdict verdict = verdict_of(make_run(
      8, 1, [](int rank, int turn) { return rank == (turn % 2 == 0 ? 2 : 5) ? 2000 * kMicrosecond : std::int64_t{0}; }));
  EXPECT_EQ(verdict.lateness, Lateness::kSteady);
  EXPECT_THAT(verdict.ranks, ElementsAre(2, 5));
  EXPECT_THAT(verdict.sentence, StartsWith("Ranks 2 and 5 are late: each of the other 6 ranks waited"));
}

TEST(late_rank, a_rank_that_is_late_because_it_waits_is_not_the_culprit) {
  // Rank 2 works for long; rank 1 waits for it before it serves the others, which wait for rank 1 alone.
  Timeline timeline = timeline_of_ranks(4);
  for (int turn = 0; turn < 50; ++turn) {
    const std::int64_t begin_ns = turn * 2000 * kMicrosecond;
    timeline.turns.push_back({"combine", 0, 0, 1, turn + 1});
    for (int rank = 0; rank < 4; ++rank) {
      timeline.ranks[rank].calls.push_back({{"complete combine", begin_ns, begin_ns + 1100 * kMicrosecond, rank}, turn});
    }
    add_wait(timeline, 1, 2, begin_ns, begin_ns + 1000 * kMicrosecond, turn);
    for (const int rank : {0, 3}) add_wait(timeline, rank, 1, begin_ns, begin_ns + 1050 * kMicrosecond, turn);
  }
  const Verdict verdict = verdict_of(timeline);
  EXPECT_EQ(verdict.lateness, Lateness::kSteady);
  EXPECT_THAT(verdict.ranks, ElementsAre(2));
  EXPECT_THAT(verdict.sentence, HasSubstr("in 50 of 50 combines"));
}

TEST(late_rank, a_rank_without_a_trace_can_be_named) {
  Timeline timeline = make_run(4, 1, [](int rank, int) { return rank == 0 ? 1000 * kMicrosecond : std::int64_t{0}; });
  timeline.ranks[0] = {};
  const Verdict verdict = verdict_of(timeline);
  EXPECT_THAT(verdict.sentence, AllOf(StartsWith("Rank 0 is late: "), HasSubstr("No trace of rank 0 was given")));
}

TEST(late_rank, ranks_that_never_wait_have_no_late_one) {
  EXPECT_EQ(verdict_of(timeline_of_ranks(3)).sentence, "Nobody stands out: no rank waited for another.");
  EXPECT_EQ(verdict_of(timeline_of_ranks(1)).sentence, "Nobody stands out: no rank waited for another.");
}

TEST(late_rank, durations_have_units_that_people_read) {
  EXPECT_EQ(duration_text(1.26), "1.3 s");
  EXPECT_EQ(duration_text(250), "250 s");
  EXPECT_EQ(duration_text(0.00612), "6.1 ms");
  EXPECT_EQ(duration_text(0.414), "414 ms");
  EXPECT_EQ(duration_text(42e-6), "42 us");
  EXPECT_EQ(duration_text(0.9999), "1.0 s");
  EXPECT_EQ(duration_text(0), "0.0 us");
}

}  // namespace
}  // namespace tokenyard::cli
