// Ranks are processes, which write a file each: a real trace, from the calls to the sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/late_rank.hpp"
#include "cli/launcher.hpp"
#include "cli/text.hpp"
#include "tests/cli/traced_layer.hpp"

namespace tokenyard::cli {
namespace {

TEST(traced_processes_report, the_rank_that_was_delayed_is_named) {
  const std::string folder = testing::TempDir();
  const int exit_code = launch_ranks({.num_ranks = 4}, [&](std::shared_ptr<Exchange> exchange) {
    start_trace(folder + "late_process_%r.json");
    run_layers(std::move(exchange), 2);
    return 0;
  });
  ASSERT_EQ(exit_code, 0);
  std::vector<NamedTrace> traces;
  for (int rank = 0; rank < 4; ++rank) {
    const std::string path = folder + "late_process_" + std::to_string(rank) + ".json";
    traces.push_back({path, parse_trace(read_text_file(path), path)});
    EXPECT_FALSE(traces.back().events.is_cut_short);
  }
  const Timeline timeline = make_timelines(traces).front();
  EXPECT_FALSE(timeline.has_several_clocks);
  const Verdict verdict = find_late_ranks(timeline, find_blame(timeline));
  EXPECT_EQ(verdict.lateness, Lateness::kSteady) << verdict.sentence;
  EXPECT_THAT(verdict.ranks, testing::ElementsAre(2)) << verdict.sentence;
  EXPECT_EQ(verdict.verb, "dispatch");
  EXPECT_GT(verdict.median_seconds, 0.005);
}

}  // namespace
}  // namespace tokenyard::cli
