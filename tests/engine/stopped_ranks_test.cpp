// Rank processes that are stopped for a while: longer than the deadline, or not so long.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/engine/round_trip.hpp"
#include "tests/engine/shared_report.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;

struct Report {
  std::atomic<int> num_at_work;
  std::atomic<int> num_told;
  std::atomic<bool> enough;
};

// Rank processes of one group; body(rank, group, plan) runs in each of them.
template <class Body>
RankProcesses start_group(const TestListener& listener, Body body) {
  return {kNumRanks, [&listener, body](int rank) {
            if (rank != 0) close(listener.fd);
            const Group group = Group::create(make_tcp_exchange(rendezvous_at(listener, rank, kNumRanks)), patient());
            const Plan plan = group.plan(small_shape(kNumRanks));
            body(rank, group, plan);
            group.barrier();
          }};
}

void expect_success(RankProcesses& processes) {
  for (const ProcessResult& result : processes.wait(100s)) EXPECT_EQ(result.exit_code, 0);
}

template <class Condition>
void wait_until(Condition condition) {
  const Deadline limit(60s);
  while (!condition() && !limit.passed()) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(condition());
}

TEST(stopped_rank, is_named_when_the_deadline_passes_and_corrupts_nothing_when_it_goes_on) {
  for (const int victim : {0, 2}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim << " is stopped");
    constexpr std::chrono::milliseconds kDeadline = 1s;
    SharedReport<Report> report;
    const TestListener listener = listen_on_loopback();
    RankProcesses processes = start_group(listener, [&](int rank, const Group& group, const Plan& plan) {
      // A result that stays alive in slot 0 while calls go on in slot 1.
      const SmallInput input(rank, kNumRanks, 0);
      DispatchArgs first = input.dispatch();
      first.slot = 0;
      const Received held = plan.dispatch(first);
      const Deadline watch(1h);
      std::chrono::milliseconds last_success{0};
      const auto error = error_of([&] {
        for (int round = 1;; ++round) {
          const SmallInput next(rank, kNumRanks, round);
          DispatchArgs args = next.dispatch();
          args.slot = 1;
          args.timeout = kDeadline;
          const Received received = plan.dispatch(args);
          expect_rows(received, kNumRanks, round);
          SmallOutput output(next);
          CombineArgs sum = output.combine(received.routing(), received.lane(0));
          sum.timeout = kDeadline;
          plan.combine(sum);
          output.expect_sum(next, kNumRanks);
          last_success = watch.elapsed();
          if (round == 1) ++report->num_at_work;
        }
      });
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
      EXPECT_EQ(error->failure().culprit, victim) << error->what();
      EXPECT_NE(error->failure().phase, Phase::kNone);
      if (rank != victim) {
        EXPECT_GE(watch.elapsed() - last_success, kDeadline);
        EXPECT_LT(watch.elapsed() - last_success, kDeadline + 6s) << error->what();
        EXPECT_NE(error->failure().reporter, victim);
      }
      ++report->num_told;
      const Deadline limit(60s);
      while (report->num_told < kNumRanks && !limit.passed()) std::this_thread::sleep_for(1ms);
      expect_rows(held, kNumRanks, 0);

      group.recover();
      EXPECT_FALSE(held.live());
      for (int round = 0; round < 10; ++round) expect_round_trip(plan, rank, kNumRanks, round);
    });
    close(listener.fd);
    wait_until([&] { return report->num_at_work == kNumRanks; });
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 5 * victim));
    processes.send_signal(victim, SIGSTOP);
    wait_until([&] { return report->num_told == kNumRanks - 1; });
    processes.send_signal(victim, SIGCONT);
    expect_success(processes);
  }
}

TEST(stopped_rank, is_waited_for_as_long_as_the_deadline_allows) {
  SharedReport<Report> report;
  const TestListener listener = listen_on_loopback();
  RankProcesses processes = start_group(listener, [&](int rank, const Group& group, const Plan& plan) {
    const Window window = group.window(16);
    std::uint64_t enough = 0;
    for (int round = 0; enough == 0; ++round) {
      expect_round_trip(plan, rank, kNumRanks, round);
      if (round == 0) ++report->num_at_work;
      // Rank 0 decides for all whether this round was the last.
      const std::size_t decision = 8 * (static_cast<std::size_t>(round) % 2);
      for (int peer = 0; rank == 0 && peer < kNumRanks; ++peer) window.signal(peer, decision, report->enough ? 1 : 0);
      group.barrier();
      enough = window.load(decision);
    }
    EXPECT_FALSE(group.status().has_value());
  });
  close(listener.fd);
  wait_until([&] { return report->num_at_work == kNumRanks; });
  for (int i = 0; i < 4; ++i) {
    const int victim = i % kNumRanks;
    processes.send_signal(victim, SIGSTOP);
    std::this_thread::sleep_for(120ms);
    processes.send_signal(victim, SIGCONT);
    std::this_thread::sleep_for(5ms);
  }
  report->enough = true;
  expect_success(processes);
}

}  // namespace
}  // namespace tokenyard::test
