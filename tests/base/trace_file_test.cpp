#include "base/trace_file.hpp"

#include <gtest/gtest.h>

namespace tokenyard::test {
namespace {

TEST(trace_path, ranks_of_one_process_share_the_file_that_was_named) {
  EXPECT_EQ(trace_path("trace.json", {.rank = 3, .num_ranks = 4}, 77), "trace.json");
}

TEST(trace_path, several_processes_have_their_lowest_rank_before_the_extension) {
  const TraceIdentity identity{.rank = 3, .num_ranks = 4, .lowest_rank = 2, .several_processes = true};
  EXPECT_EQ(trace_path("trace.json", identity, 77), "trace.rank2.json");
  EXPECT_EQ(trace_path("/a.b/trace", identity, 77), "/a.b/trace.rank2");
  EXPECT_EQ(trace_path("a/.hidden", identity, 77), "a/.hidden.rank2");
  EXPECT_EQ(trace_path("trace.tar.json", identity, 77), "trace.tar.rank2.json");
}

TEST(trace_path, letters_stand_for_rank_and_process) {
  const TraceIdentity identity{.rank = 3, .num_ranks = 4, .lowest_rank = 2, .several_processes = true};
  EXPECT_EQ(trace_path("%r.json", identity, 77), "2.json");
  EXPECT_EQ(trace_path("t-%p.json", identity, 77), "t-77.json");
  EXPECT_EQ(trace_path("%p/%r/100%%", identity, 77), "77/2/100%");
  EXPECT_EQ(trace_path("odd%x%", identity, 77), "odd%x%.rank2");
}

}  // namespace
}  // namespace tokenyard::test
