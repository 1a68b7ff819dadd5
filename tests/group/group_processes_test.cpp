// Groups whose ranks are processes, or threads of several processes.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/window_exercises.hpp"

namespace tokenyard::test {
namespace {

void expect_success(const std::vector<ProcessResult>& results) {
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

TEST(group_of_processes, processes_of_a_host_are_one_domain) {
  expect_success(run_process_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    EXPECT_EQ(group.num_domains(), 1);
    const Plan plan = group.plan(small_shape(4));
    for (int round = 0; round < 20; ++round) expect_round_trip(plan, rank, 4, round);
    group.barrier();
  }));
}

TEST(group_of_processes, windows_carry_bytes_signals_and_sums) {
  expect_success(run_process_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    exercise_put_and_get(group, group.window(400));
    exercise_ring(group.window(4096), 200);
    exercise_additions(group, group.window(64), 2'000);
    const Window messages = group.window(4096);
    if (group.rank() < 2) exercise_message_passing(messages, 10'000);
    group.barrier();
  }));
}

TEST(group_of_processes, domains_can_be_overridden) {
  expect_success(run_process_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    GroupOptions options = patient();
    options.domain = rank % 2;
    const Group group = Group::create(std::move(exchange), options);
    EXPECT_EQ(group.num_domains(), 2);
    for (int peer = 0; peer < 4; ++peer) EXPECT_EQ(group.domain_of(peer), peer % 2);
    const Window window = group.window(64);
    const int neighbour = (rank + 2) % 4;
    window.signal(neighbour, 0, 9);
    EXPECT_EQ(window.wait(0, Compare::kNotEqual, 0), 9);
    expect_error([&] { window.signal((rank + 1) % 4, 0, 1); }, ErrorCode::kUnsupported, "is in another domain");
    expect_error([&] { group.plan(small_shape(4)); }, ErrorCode::kUnsupported, "the group spans 2 domains");
    group.barrier();
  }));
}

// Rank 1 calls `hide` after it has joined the Exchange and before it makes the group.
void expect_rank_1_apart(const std::function<bool()>& hide) {
  expect_success(run_process_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
    ASSERT_TRUE(exchange->rank() != 1 || hide());
    const Group group = Group::create(std::move(exchange), patient());
    EXPECT_EQ(group.num_domains(), 2);
    EXPECT_EQ(group.domain_of(0), 0);
    EXPECT_EQ(group.domain_of(1), 1);
    EXPECT_EQ(group.domain_of(2), 0);
    group.barrier();
  }));
}

TEST(group_of_processes, another_network_namespace_is_another_domain) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a network namespace";
  expect_rank_1_apart([] { return unshare(CLONE_NEWNET) == 0; });
}

TEST(group_of_processes, another_user_is_another_domain) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  expect_rank_1_apart([] { return setuid(65534) == 0; });
}

TEST(group_of_processes, threads_of_two_processes_form_one_group) {
  const TestListener listener = listen_on_loopback();
  RankProcesses processes(2, [&](int process) {
    if (process != 0) close(listener.fd);
    run_ranks(2, [&](int thread) {
      const int rank = 2 * process + thread;
      const Group group = Group::create(make_tcp_exchange(rendezvous_at(listener, rank, 4)), patient());
      EXPECT_EQ(group.num_domains(), 1);
      exercise_put_and_get(group, group.window(400));
      exercise_ring(group.window(4096), 100);
      const Plan plan = group.plan(small_shape(4));
      for (int round = 0; round < 20; ++round) expect_round_trip(plan, rank, 4, round);
      group.barrier();
    });
  });
  close(listener.fd);
  expect_success(processes.wait(std::chrono::seconds(60)));
}

TEST(group_of_processes, children_of_a_process_that_had_a_group_are_processes) {
  const auto use_a_group = [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    expect_round_trip(group.plan(small_shape(2)), rank, 2, 0);
    group.barrier();
  };
  run_thread_ranks(2, use_a_group);
  expect_success(run_process_ranks(2, use_a_group));
}

TEST(group_of_processes, a_plan_keeps_one_descriptor_per_region_however_many_peers_there_are) {
  expect_success(run_process_ranks(6, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    const int num_descriptors = count_descriptors();
    const Plan plan = group.plan(small_shape(6));
    EXPECT_LE(count_descriptors(), num_descriptors + 5);
    group.barrier();
  }));
}

// Rank 1 ends as `end` says after a round trip; the others must be told `text`.
void expect_report(const std::function<void(Group*, Plan*)>& end, const char* text, int exit_code) {
  const std::vector<ProcessResult> results = run_process_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    std::optional<Group> group = Group::create(std::move(exchange), patient());
    std::optional<Plan> plan = group->plan(small_shape(3));
    expect_round_trip(*plan, rank, 3, 0);
    if (rank == 1) {
      end(&*group, &*plan);
      return;
    }
    const SmallInput input(rank, 3, 1);
    const Deadline watch(std::chrono::hours(1));
    const auto error = error_of([&] { plan->dispatch(input.dispatch()); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kPeerLost) << error->what();
    EXPECT_EQ(error->failure().culprit, 1) << error->what();
    EXPECT_EQ(error->failure().phase, Phase::kDispatchCounts) << error->what();
    const bool told_by_other = std::strstr(error->what(), "the group has failed") != nullptr;
    EXPECT_THAT(error->what(), testing::HasSubstr(told_by_other ? "reported peer lost of rank 1" : text));
    EXPECT_LT(watch.elapsed(), std::chrono::seconds(15)) << "long before the deadline";
  });
  EXPECT_EQ(results[0].exit_code, 0);
  EXPECT_EQ(results[1].exit_code, exit_code);
  EXPECT_EQ(results[2].exit_code, 0);
}

TEST(group_of_processes, a_rank_whose_function_returns_has_left) {
  expect_report([](Group*, Plan*) {}, "which has left the group", 0);
}

TEST(group_of_processes, a_rank_that_exits_without_letting_go_has_died) {
  expect_report([](Group*, Plan*) { _exit(9); }, "which has died", 9);
}

TEST(group_of_processes, a_wait_on_a_window_ends_when_any_rank_dies) {
  const std::vector<ProcessResult> results = run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    const Window window = group.window(8);
    group.barrier();
    if (group.rank() == 1) _exit(9);
    const Deadline watch(std::chrono::hours(1));
    const auto error = error_of([&] { window.wait(0, Compare::kEqual, 1); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kPeerLost) << error->what();
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_EQ(error->failure().phase, Phase::kWindowWait);
    EXPECT_LT(watch.elapsed(), std::chrono::seconds(15)) << "long before the deadline";
  });
  EXPECT_EQ(results[0].exit_code, 0);
  EXPECT_EQ(results[1].exit_code, 9);
  EXPECT_EQ(results[2].exit_code, 0);
}

TEST(group_of_processes, a_wait_on_a_window_goes_on_when_a_rank_leaves_on_purpose) {
  expect_success(run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    const Window window = group.window(8);
    group.barrier();
    if (group.rank() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      window.signal(2, 0, 1);
    }
    EXPECT_TRUE(group.rank() != 2 || window.wait(0, Compare::kEqual, 1) == 1);
  }));
}

}  // namespace
}  // namespace tokenyard::test
