#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"
#include "tests/engine/trace_document.hpp"
#include "tokenyard/trace.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 4;
constexpr int kNumRounds = 20;

std::string trace_file(const std::string& name) { return testing::TempDir() + name; }

TEST(traced_threads, every_call_and_its_steps_are_in_the_file_of_all_ranks) {
  const std::string path = trace_file("every_call.json");
  start_trace(path);
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    for (int round = 0; round < kNumRounds; ++round) expect_round_trip(rank.plan, rank.rank, kNumRanks, round);
    rank.group.barrier();
  });
  stop_trace();

  const Json document = read_trace(path);
  expect_nesting(document);
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const auto calls = events_of(document, "call", rank);
    for (const char* call : {"begin dispatch", "complete dispatch", "begin combine", "complete combine"}) {
      EXPECT_EQ(count_named(calls, call), kNumRounds) << call << " of rank " << rank;
    }
    EXPECT_EQ(count_named(calls, "barrier"), 1);
    const auto steps = events_of(document, "step", rank);
    for (const char* step : {"count", "exchange counts", "place", "push", "deliver", "fold", "reduce"}) {
      EXPECT_EQ(count_named(steps, step), kNumRounds) << step << " of rank " << rank;
    }
    for (const Json& wait : events_of(document, "wait", rank)) {
      EXPECT_NE(wait.at("args").at("peer"), rank);
      EXPECT_EQ(wait.at("name"), "wait for rank " + std::to_string(wait.at("args").at("peer").get<int>()));
    }
  }
  // Slots alternate and turns count up.
  std::map<std::pair<int, int>, int> last_turn;
  for (const Json& call : events_of(document, "call", 0)) {
    if (call.at("name") != "begin dispatch") continue;
    const Json& args = call.at("args");
    int& last = last_turn[{args.at("plan").get<int>(), args.at("slot").get<int>()}];
    EXPECT_EQ(args.at("turn").get<int>(), last + 1);
    last = args.at("turn").get<int>();
  }
  EXPECT_EQ(last_turn.size(), 2);
}

TEST(traced_threads, rows_and_bytes_sent_are_those_received) {
  const std::string path = trace_file("rows_sent.json");
  std::array<std::atomic<std::int64_t>, kNumRanks> received{};
  start_trace(path);
  run_small_ranks(kNumRanks, [&](SmallRank& rank) {
    for (int round = 0; round < 3; ++round) {
      received[rank.rank] += rank.plan.dispatch(SmallInput(rank.rank, kNumRanks, round).dispatch()).routing().num_recv_rows();
    }
  });
  stop_trace();
  std::array<std::int64_t, kNumRanks> sent{};
  for (const Json& step : events_of(read_trace(path), "step")) {
    if (step.at("name") != "push") continue;
    for (const Json& to : step.at("args").at("to")) {
      sent[to.at(0).get<int>()] += to.at(1).get<std::int64_t>();
      EXPECT_EQ(to.at(2).get<std::int64_t>(), to.at(1).get<std::int64_t>() * kHidden * 4);
    }
  }
  for (int rank = 0; rank < kNumRanks; ++rank) EXPECT_EQ(sent[rank], received[rank]);
}

TEST(traced_threads, a_delayed_rank_is_waited_for_in_the_phase_where_it_is_missed) {
  const std::string path = trace_file("delayed.json");
  start_trace(path);
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    if (rank.rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    rank.plan.dispatch(rank.input.dispatch());
  });
  stop_trace();
  const Json document = read_trace(path);
  for (const int waiter : {0, 1, 3}) {
    double waited = 0;
    for (const Json& wait : events_of(document, "wait", waiter)) {
      if (wait.at("args").at("phase") == "dispatch/counts" && wait.at("args").at("peer") == 2)
        waited += wait.at("dur").get<double>();
    }
    EXPECT_GT(waited, 20'000) << "microseconds of rank " << waiter;
  }
}

TEST(traced_threads, tracing_starts_and_stops_while_calls_run) {
  std::atomic<bool> is_over = false;
  std::size_t num_calls = 0;
  std::thread switcher([&] {
    for (int i = 0; !is_over || i < 3; ++i) {
      const std::string path = trace_file("switched" + std::to_string(i % 3) + ".json");
      std::filesystem::remove(path);
      start_trace(path);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      stop_trace();
      if (!std::filesystem::exists(path)) continue;  // there was no group
      const Json document = read_trace(path);
      expect_nesting(document);
      num_calls += events_of(document, "call").size();
    }
  });
  run_small_ranks(kNumRanks, [](SmallRank& rank) {
    for (int round = 0; round < 200; ++round) expect_round_trip(rank.plan, rank.rank, kNumRanks, round);
  });
  is_over = true;
  switcher.join();
  EXPECT_GT(num_calls, 0);
}

TEST(traced_threads, groups_of_one_process_have_tracks_of_their_own) {
  const std::string path = trace_file("two_groups.json");
  start_trace(path);
  for (int i = 0; i < 2; ++i) run_small_ranks(2, [](SmallRank& rank) { rank.group.barrier(); });
  stop_trace();
  std::map<int, std::string> groups;  // by pid
  for (const Json& event : read_trace(path)) {
    if (event.at("name") == "tokenyard_rank")
      groups[event.at("pid").get<int>()] = event.at("args").at("group").get<std::string>();
  }
  ASSERT_EQ(groups.size(), 4);
  std::set<std::string> distinct;
  for (const auto& [pid, group] : groups) distinct.insert(group);
  EXPECT_EQ(distinct.size(), 2);
}

TEST(traced_threads, the_file_can_be_read_while_it_is_written) {
  const std::string path = trace_file("growing.json");
  start_trace(path);
  run_small_ranks(2, [&](SmallRank& rank) {
    expect_round_trip(rank.plan, rank.rank, 2, 0);
    rank.meet();
    if (rank.rank == 0) {
      // A look may come in the middle of a write.
      for (int look = 0; look < 500 && events_of(try_read_trace(path), "call").size() < 8; ++look) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      EXPECT_EQ(events_of(read_trace(path), "call").size(), 8);
    }
    rank.meet();
  });
  stop_trace();
}

TEST(traced_threads, a_trace_that_cannot_be_written_is_refused_or_ends) {
  stop_trace();  // without a trace it does nothing
  expect_error([] { start_trace(""); }, ErrorCode::kInvalidArgument, "name of a file");
  expect_error([] { start_trace("/no/such/folder/trace.json"); }, ErrorCode::kSystem, "/no/such/folder");
  start_trace(trace_file("first.json"));
  expect_error([] { start_trace(trace_file("second.json")); }, ErrorCode::kInvalidArgument, "first.json already");
  stop_trace();

  // A disk that is full disturbs no call.
  start_trace("/dev/full");
  run_small_ranks(2, [](SmallRank& rank) { expect_round_trip(rank.plan, rank.rank, 2, 0); });
  stop_trace();
}

}  // namespace
}  // namespace tokenyard::test
