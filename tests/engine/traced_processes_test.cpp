#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <thread>

#include "tests/engine/round_trip.hpp"
#include "tests/engine/trace_document.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/trace.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 4;

std::string trace_of_rank(const std::string& name, int rank) {
  return testing::TempDir() + name + ".rank" + std::to_string(rank) + ".json";
}

void make_rounds(const Group& group, int num_rounds) {
  const Plan plan = group.plan(small_shape(group.num_ranks()));
  for (int round = 0; round < num_rounds; ++round) expect_round_trip(plan, group.rank(), group.num_ranks(), round);
}

TEST(traced_processes, each_writes_its_own_file_where_the_environment_says_so) {
  setenv("TOKENYARD_TRACE", (testing::TempDir() + "own_file.json").c_str(), 1);
  const auto results = run_process_ranks(
      kNumRanks, [](std::shared_ptr<Exchange> exchange) { make_rounds(Group::create(std::move(exchange), patient()), 10); });
  unsetenv("TOKENYARD_TRACE");
  std::set<std::string> groups;
  std::set<std::string> clocks;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0);
    const Json document = read_trace(trace_of_rank("own_file", rank));
    expect_nesting(document);
    EXPECT_EQ(count_named(events_of(document, "call", rank), "begin dispatch"), 10);
    EXPECT_EQ(events_of(document, "call").size(), events_of(document, "call", rank).size());
    for (const Json& event : document) {
      if (event.at("name") != "tokenyard_rank") continue;
      const Json& args = event.at("args");
      EXPECT_EQ(args.at("rank"), rank);
      EXPECT_EQ(args.at("num_ranks"), kNumRanks);
      groups.insert(args.at("group").get<std::string>());
      clocks.insert(args.at("clock").get<std::string>());
    }
  }
  EXPECT_EQ(groups.size(), 1);
  EXPECT_EQ(clocks.size(), 1);
}

TEST(traced_processes, what_a_killed_rank_leaves_can_be_read) {
  const auto results = run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    start_trace(testing::TempDir() + "killed.json");
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    make_rounds(group, 5);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    if (rank == 1) raise(SIGKILL);
    _exit(0);  // without flushing either
  });
  EXPECT_EQ(results[1].signal, SIGKILL);
  for (int rank = 0; rank < 2; ++rank) {
    const Json document = read_trace(trace_of_rank("killed", rank));
    expect_nesting(document);
    EXPECT_EQ(count_named(events_of(document, "call", rank), "complete combine"), 5);
  }
}

TEST(traced_processes, a_forked_child_does_not_write_into_its_parents_file) {
  const std::string path = testing::TempDir() + "parent.json";
  const std::string childs = testing::TempDir() + "child.json";
  RankProcesses processes(1, [&](int) {
    start_trace(path);
    run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) { make_rounds(Group::create(std::move(exchange)), 1); });
    RankProcesses child(1, [&](int) {
      start_trace(childs);
      run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) { make_rounds(Group::create(std::move(exchange)), 3); });
      stop_trace();
    });
    EXPECT_EQ(child.wait()[0].exit_code, 0);
    run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) { make_rounds(Group::create(std::move(exchange)), 1); });
    stop_trace();
  });
  EXPECT_EQ(processes.wait()[0].exit_code, 0);
  EXPECT_EQ(count_named(events_of(read_trace(path), "call"), "begin dispatch"), 2);
  EXPECT_EQ(count_named(events_of(read_trace(childs), "call"), "begin dispatch"), 3);
}

}  // namespace
}  // namespace tokenyard::test
