#include "cli/blame.hpp"

#include <gtest/gtest.h>

#include "tests/cli/synthetic_timeline.hpp"

namespace tokenyard::cli {
namespace {

TEST(blame, falls_on_the_rank_that_waits_for_nobody) {
  Timeline timeline = timeline_of_ranks(3);
  add_wait(timeline, 0, 2, 100, 400);
  add_wait(timeline, 1, 2, 300, 400);
  const Blame blame = find_blame(timeline);
  EXPECT_EQ(blame.caused_ns[0][2], 300);
  EXPECT_EQ(blame.caused_ns[1][2], 100);
  EXPECT_EQ(blame.caused_ns[2][2], 0);
  EXPECT_EQ(blame.nobodys_ns, 0);
}

TEST(blame, follows_a_chain_to_its_end_moment_by_moment) {
  // 0 waits for 1 all of the time; 1 waits for 2, then works on its own, then waits for 3, which waits for 2.
  Timeline timeline = timeline_of_ranks(4);
  add_wait(timeline, 0, 1, 0, 1000);
  add_wait(timeline, 1, 2, 0, 400);
  add_wait(timeline, 1, 3, 500, 1000);
  add_wait(timeline, 3, 2, 600, 1000);
  const Blame blame = find_blame(timeline);
  EXPECT_EQ(blame.caused_ns[0][1], 100);
  EXPECT_EQ(blame.caused_ns[0][2], 400 + 400);
  EXPECT_EQ(blame.caused_ns[0][3], 100);
  EXPECT_EQ(blame.caused_ns[1][2], 400 + 400);
  EXPECT_EQ(blame.caused_ns[1][3], 100);
  EXPECT_EQ(blame.caused_ns[3][2], 400);
}

TEST(blame, is_nobodys_where_ranks_wait_for_each_other) {
  Timeline timeline = timeline_of_ranks(3);
  add_wait(timeline, 0, 1, 0, 100);
  add_wait(timeline, 1, 0, 40, 100);
  add_wait(timeline, 2, 0, 50, 100);
  const Blame blame = find_blame(timeline);
  EXPECT_EQ(blame.caused_ns[0][1], 40);
  EXPECT_EQ(blame.caused_ns[1][0], 0);
  EXPECT_EQ(blame.caused_ns[2][0] + blame.caused_ns[2][1], 0);
  EXPECT_EQ(blame.nobodys_ns, 60 + 60 + 50);
}

TEST(blame, says_what_the_cause_did_meanwhile) {
  Timeline timeline = timeline_of_ranks(2);
  timeline.turns.push_back({"dispatch", 0, 0, 1, 1});
  timeline.ranks[1].calls.push_back({{"begin dispatch", 700, 1000, 1}, 0});
  timeline.ranks[1].steps.push_back({{"push", 800, 1000, 1}, "dispatch", {}});
  add_wait(timeline, 0, 1, 100, 950);
  const Blame blame = find_blame(timeline);
  EXPECT_EQ(blame.activity_ns[1].at("push"), 150);
  EXPECT_EQ(blame.activity_ns[1].at(""), 600);
}

TEST(blame, mapping_memory_is_no_waiting) {
  Timeline timeline = timeline_of_ranks(2);
  add_wait(timeline, 0, 1, 0, 100);
  timeline.ranks[0].waits.back().name = "mapping";
  EXPECT_EQ(find_blame(timeline).caused_ns[0][1], 0);
}

}  // namespace
}  // namespace tokenyard::cli
