#include "cli/child_processes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace tokenyard::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;

// Ends by itself after a while, whatever happens to the test.
int sleep_long() {
  sleep(60);
  return 0;
}

bool has_children() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

// Children leave without the test framework's exit handlers.
std::function<int()> exits_with(int code) {
  return [code]() -> int { _exit(code); };
}

TEST(child_processes, exit_codes_come_in_the_order_of_their_start) {
  ChildProcesses children(milliseconds(10'000));
  for (int code : {0, 7, 0}) children.start(exits_with(code));
  EXPECT_THAT(children.wait(), ElementsAre(0, 7, 0));
  EXPECT_FALSE(has_children());
}

TEST(child_processes, a_killed_child_counts_as_128_and_its_signal) {
  ChildProcesses children(milliseconds(10'000));
  children.start([] { return raise(SIGKILL); });
  EXPECT_THAT(children.wait(), ElementsAre(128 + SIGKILL));
}

TEST(child_processes, the_others_are_ended_after_the_grace_when_one_fails) {
  const auto start = steady_clock::now();
  ChildProcesses children(milliseconds(200));
  children.start(sleep_long);
  children.start(exits_with(5));
  EXPECT_THAT(children.wait(), ElementsAre(128 + SIGTERM, 5));
  EXPECT_GE(steady_clock::now() - start, milliseconds(200));
  EXPECT_LT(steady_clock::now() - start, milliseconds(20'000));
  EXPECT_FALSE(has_children());
}

TEST(child_processes, a_child_that_ignores_the_request_is_killed) {
  ChildProcesses children(milliseconds(100));
  // Inherited, so that the request finds it ignored however late the child gets a core.
  auto* const before = signal(SIGTERM, SIG_IGN);
  children.start(sleep_long);
  signal(SIGTERM, before);
  children.start(exits_with(5));
  EXPECT_THAT(children.wait(), ElementsAre(128 + SIGKILL, 5));
}

TEST(child_processes, a_signal_to_the_parent_ends_all_children) {
  ChildProcesses children(milliseconds(30'000));
  children.start(sleep_long);
  children.start(sleep_long);
  kill(getpid(), SIGINT);  // blocked, so it waits for wait()
  EXPECT_THAT(children.wait(), ElementsAre(128 + SIGINT, 128 + SIGINT));
  EXPECT_FALSE(has_children());
}

TEST(child_processes, none_is_left_when_nobody_waited) {
  {
    ChildProcesses children(milliseconds(30'000));
    children.start(sleep_long);
  }
  EXPECT_FALSE(has_children());
}

}  // namespace
}  // namespace tokenyard::cli
