#include "cli/timeline.hpp"

#include <gtest/gtest.h>

#include "cli/blame.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/cli/trace_text.hpp"

namespace tokenyard::cli {
namespace {

NamedTrace trace_of(const TraceText& text, const std::string& path) { return {path, parse_trace(text.text(), path)}; }

TEST(timeline, files_of_one_group_become_one_timeline) {
  const auto timelines =
      make_timelines({trace_of({.rank = 0, .waited_us = 100}, "a"), trace_of({.rank = 1, .arrival_us = 100}, "b")});
  ASSERT_EQ(timelines.size(), 1);
  const Timeline& timeline = timelines[0];
  EXPECT_EQ(timeline.turns.size(), 10);
  EXPECT_FALSE(timeline.has_several_clocks);
  EXPECT_EQ(timeline.ranks[0].waits[3].turn_idx, timeline.ranks[0].calls[3].turn_idx);
  EXPECT_EQ(timeline.ranks[1].calls[3].turn_idx, timeline.ranks[0].calls[3].turn_idx);
  EXPECT_EQ(timeline.ranks[0].calls[0].begin_ns, 0);
  EXPECT_EQ(timeline.ranks[1].calls[0].begin_ns, 100'000);
  EXPECT_EQ(timeline.ranks[1].steps[0].verb, "dispatch");
  EXPECT_EQ(find_blame(timeline).caused_ns[0][1], 10 * 100'000);
}

TEST(timeline, hosts_with_different_clocks_are_compared_by_wall_clocks) {
  // Rank 1's host was started 500 s later: its steady clock shows less, its wall clock the same.
  const auto timelines = make_timelines(
      {trace_of({.rank = 0, .realtime_offset_ns = 1'000'000'000'000, .first_us = 600'000'000, .waited_us = 100}, "a"),
       trace_of({.rank = 1,
                 .host = "beta",
                 .clock = "beta/1",
                 .realtime_offset_ns = 1'500'000'000'000,
                 .first_us = 100'000'000,
                 .arrival_us = 100},
                "b")});
  ASSERT_EQ(timelines.size(), 1);
  EXPECT_TRUE(timelines[0].has_several_clocks);
  EXPECT_EQ(timelines[0].ranks[1].calls[0].begin_ns, 100'000);
  EXPECT_EQ(timelines[0].ranks[1].host, "beta");
}

TEST(timeline, groups_stay_apart_and_the_busiest_comes_first) {
  const auto timelines = make_timelines({trace_of({.rank = 0, .group = "1"}, "a"), trace_of({.rank = 0, .group = "2"}, "b"),
                                         trace_of({.rank = 1, .group = "2"}, "c")});
  ASSERT_EQ(timelines.size(), 2);
  EXPECT_EQ(timelines[0].group, "2");
  EXPECT_FALSE(timelines[1].ranks[1].is_traced);
}

TEST(timeline, a_file_given_twice_is_noticed_and_a_later_trace_of_the_rank_is_added) {
  test::expect_error([] { make_timelines({trace_of({}, "first.json"), trace_of({}, "second.json")}); },
                     ErrorCode::kInvalidArgument, "first.json and second.json");
  const auto timelines = make_timelines({trace_of({}, "a"), trace_of({.first_us = 2'000'000}, "b")});
  EXPECT_EQ(timelines[0].ranks[0].calls.size(), 20);
}

TEST(timeline, a_barrier_is_a_wait_for_the_last_rank_that_enters) {
  NamedTrace a = trace_of({.rank = 0}, "a");
  NamedTrace b = trace_of({.rank = 1}, "b");
  const auto add_barrier = [](NamedTrace& trace, int pid, std::int64_t begin_ns) {
    trace.events.spans.push_back({.kind = TracedSpan::Kind::kCall,
                                  .name = "barrier",
                                  .begin_ns = begin_ns,
                                  .end_ns = 1'200'000'000,
                                  .pid = pid,
                                  .thread = 7,
                                  .generation = 1,
                                  .turn = 1,
                                  .sent = {}});
  };
  add_barrier(a, 0, 1'100'000'000);
  add_barrier(b, 1, 1'150'000'000);
  const Blame blame = find_blame(make_timelines({a, b})[0]);
  EXPECT_EQ(blame.caused_ns[0][1], 50'000'000);
  EXPECT_EQ(blame.caused_ns[1][0], 0);
}

}  // namespace
}  // namespace tokenyard::cli
