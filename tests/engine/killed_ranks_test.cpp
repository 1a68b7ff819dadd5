// Rank processes that are killed in the middle of their work: what the others are told, what is left, and how they go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <csignal>
#include <random>
#include <thread>

#include "base/file_descriptor.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/engine/shared_report.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/window_exercises.hpp"

namespace tokenyard::test {
namespace {

using Clock = std::chrono::steady_clock;  // the same in all processes of a host

constexpr int kMaxSockets = 64;
constexpr std::chrono::milliseconds kDeadline = 30s;  // of every wait
constexpr std::chrono::milliseconds kMuchSooner = 10s;

enum class Work {
  kOnePlan,   // dispatches, cached dispatches and combines
  kNewPlans,  // each round makes a plan, whose slots grow at once
  kNewGroups,
};

constexpr const char* kWorkNames[] = {"calls on one plan", "making plans", "making groups"};

struct Report {
  std::atomic<int> num_at_work;
  std::atomic<std::int64_t> killed_at;  // of Clock
  std::array<std::array<std::atomic<unsigned long>, kMaxSockets>, 8> sockets;
};

struct Trial {
  int num_ranks;
  int victim;
  Work work;
  std::chrono::microseconds delay;  // from the moment when all are at work to the kill
};

Shape shape_of_growing_slots(int num_ranks) {
  Shape shape = small_shape(num_ranks);
  shape.recv_capacity = 1;
  return shape;
}

// Works until something goes wrong.
void work_forever(const std::shared_ptr<Exchange>& exchange, const Group& group, Work work, std::atomic<int>* num_at_work) {
  const int rank = group.rank();
  const int num_ranks = group.num_ranks();
  const Plan plan = group.plan(small_shape(num_ranks));
  expect_round_trip(plan, rank, num_ranks, 0);
  ++*num_at_work;
  for (int round = 1; !testing::Test::HasFailure(); ++round) {
    if (work == Work::kNewGroups) {
      const Group another = Group::create(exchange, patient(kDeadline));
      exercise_ring(another.window(16), 2);
      another.barrier();
      continue;
    }
    if (work == Work::kNewPlans) {
      expect_round_trip(group.plan(shape_of_growing_slots(num_ranks)), rank, num_ranks, round);
      continue;
    }
    const SmallInput input(rank, num_ranks, round);
    Received received = plan.dispatch(input.dispatch());
    expect_rows(received, num_ranks, round);
    const Received again = plan.dispatch(input.dispatch(received.routing()));
    expect_rows(again, num_ranks, round);
    received.release();
    SmallOutput output(input);
    plan.combine(output.combine(again.routing(), again.lane(0)));
    output.expect_sum(input, num_ranks);
  }
}

// What a rank other than the victim does, from the first group to the one of the survivors.
void survive(int rank, const Trial& trial, const std::array<TestListener, 2>& listeners, SharedReport<Report>& report) {
  const int num_descriptors = count_descriptors();
  std::optional<Error> error;
  {
    const auto exchange = make_tcp_exchange(rendezvous_at(listeners[0], rank, trial.num_ranks));
    const Group group = Group::create(exchange, patient(kDeadline));
    int num_sockets = 0;
    for (const unsigned long inode : own_sockets()) report->sockets[rank][num_sockets++] = inode;
    error = error_of([&] { work_forever(exchange, group, trial.work, &report->num_at_work); });
    const Clock::duration since_kill = Clock::now().time_since_epoch() - Clock::duration(report->killed_at.load());
    if (rank == trial.victim) return;
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kPeerLost) << error->what();
    EXPECT_EQ(error->failure().culprit, trial.victim) << error->what();
    EXPECT_NE(error->failure().phase, Phase::kNone) << error->what();
    EXPECT_NE(error->failure().reporter, trial.victim) << error->what();
    EXPECT_LT(since_kill, kMuchSooner) << error->what();
    if (trial.work != Work::kNewGroups) {
      ASSERT_TRUE(group.status().has_value());
      EXPECT_EQ(group.status()->culprit, trial.victim);
    }
    EXPECT_THROW(group.recover(), Error);
  }
  const int own_listener = rank == 0 ? 1 : 0;  // the exchange adopted and closed it
  EXPECT_EQ(count_descriptors(), num_descriptors - own_listener) << error->what();
  EXPECT_EQ(count_shared_mappings(), 0);

  const int new_rank = rank < trial.victim ? rank : rank - 1;
  const int num_survivors = trial.num_ranks - 1;
  const Group group =
      Group::create(make_tcp_exchange(rendezvous_at(listeners[1], new_rank, num_survivors)), patient(kDeadline));
  const Plan plan = group.plan(small_shape(num_survivors));
  for (int round = 0; round < 10; ++round) expect_round_trip(plan, new_rank, num_survivors, round);
  group.barrier();
}

void run_trial(const Trial& trial) {
  SCOPED_TRACE(testing::Message() << trial.num_ranks << " ranks, rank " << trial.victim << " killed after "
                                  << trial.delay.count() << " us of " << kWorkNames[static_cast<int>(trial.work)]);
  SharedReport<Report> report;
  const std::array<TestListener, 2> listeners{listen_on_loopback(), listen_on_loopback()};
  RankProcesses processes(trial.num_ranks, [&](int rank) {
    const int first_survivor = trial.victim == 0 ? 1 : 0;
    if (rank != 0) close(listeners[0].fd);
    if (rank != first_survivor) close(listeners[1].fd);
    survive(rank, trial, listeners, report);
  });
  for (const TestListener& listener : listeners) close(listener.fd);

  const Deadline start(60s);
  while (report->num_at_work < trial.num_ranks && !start.passed()) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(trial.delay);
  report->killed_at = Clock::now().time_since_epoch().count();
  processes.send_signal(trial.victim, SIGKILL);
  const std::vector<ProcessResult> results = processes.wait(100s);
  for (int rank = 0; rank < trial.num_ranks; ++rank) {
    EXPECT_EQ(results[rank].signal, rank == trial.victim ? SIGKILL : 0) << "rank " << rank;
    if (rank != trial.victim) {
      EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank;
    }
  }
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "no process is left";
  const std::set<unsigned long> present = unix_sockets();
  for (const auto& of_rank : report->sockets) {
    for (const auto& inode : of_rank) {
      EXPECT_FALSE(inode != 0 && present.contains(inode)) << "a socket is left";
    }
  }
  EXPECT_EQ(count_shared_memory_files(), 0);
}

TEST(killed_rank, is_named_by_all_others_who_go_on_without_it) {
  std::mt19937 random(77);
  for (const int num_ranks : {2, 4, 8}) {
    for (int i = 0; i < 8; ++i) {
      const int victim = i == 0 ? 0 : static_cast<int>(random() % static_cast<unsigned>(num_ranks));
      constexpr Work kWorks[] = {Work::kOnePlan, Work::kOnePlan, Work::kNewPlans, Work::kNewGroups};
      const Work work = kWorks[i % 4];
      run_trial({num_ranks, victim, work, std::chrono::microseconds(random() % 20'000)});
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(broken_rank, without_descriptors_is_reported_to_all_and_slots_that_were_about_to_grow_work_afterwards) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "UndefinedBehaviorSanitizer itself needs descriptors";
#endif
  const auto results = run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient(kDeadline));
    for (int round = 0; round < 4; ++round) {
      const Plan plan = group.plan(shape_of_growing_slots(3));
      rlimit limit{};
      ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
      // In odd rounds there is one descriptor left: enough to make memory for the others, who then have grown, but not to take
      // theirs.
      const rlim_t num_free = static_cast<rlim_t>(FileDescriptor(dup(0)).get()) + round % 2;
      const rlimit little{num_free, limit.rlim_max};
      if (rank == 1) setrlimit(RLIMIT_NOFILE, &little);
      const SmallInput input(rank, 3, round);
      const Deadline watch(1h);
      const auto error = error_of([&] { plan.dispatch(input.dispatch()); });
      setrlimit(RLIMIT_NOFILE, &limit);
      ASSERT_TRUE(error.has_value()) << "the slot has to grow, and rank 1 cannot";
      EXPECT_EQ(error->code(), ErrorCode::kSystem) << error->what();
      EXPECT_LT(watch.elapsed(), kMuchSooner) << "nobody waits for the deadline";
      if (rank != 1) {
        EXPECT_EQ(error->failure().culprit, 1) << error->what();
        EXPECT_THAT(error->what(), testing::HasSubstr("rank 1 reported system error of rank 1"));
      }
      ASSERT_TRUE(group.status().has_value());
      EXPECT_EQ(group.status()->culprit, 1);
      group.recover();
      for (int repetition = 0; repetition < 4; ++repetition) expect_round_trip(plan, rank, 3, repetition);
    }
    group.barrier();
  });
  for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0);
}

}  // namespace
}  // namespace tokenyard::test
