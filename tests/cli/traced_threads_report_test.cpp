// Ranks are threads: a real trace, from the calls to the sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/late_rank.hpp"
#include "cli/launcher.hpp"
#include "cli/text.hpp"
#include "tests/cli/traced_layer.hpp"

namespace tokenyard::cli {
namespace {

TEST(traced_threads_report, the_rank_that_was_delayed_is_named) {
  const std::string path = testing::TempDir() + "late_thread.json";
  start_trace(path);
  const int exit_code = launch_ranks({.num_ranks = 4, .kind = RankKind::kThreads}, [](std::shared_ptr<Exchange> exchange) {
    run_layers(std::move(exchange), 2);
    return 0;
  });
  stop_trace();
  ASSERT_EQ(exit_code, 0);
  const Timeline timeline = make_timelines({{path, parse_trace(read_text_file(path), path)}}).front();
  const Verdict verdict = find_late_ranks(timeline, find_blame(timeline));
  EXPECT_EQ(verdict.lateness, Lateness::kSteady) << verdict.sentence;
  EXPECT_THAT(verdict.ranks, testing::ElementsAre(2)) << verdict.sentence;
  EXPECT_EQ(verdict.verb, "dispatch");
  EXPECT_EQ(verdict.num_turns, kNumLayers);
  EXPECT_EQ(verdict.activity, "") << "it slept outside of the library";
  EXPECT_GT(verdict.median_seconds, 0.005);
}

}  // namespace
}  // namespace tokenyard::cli
