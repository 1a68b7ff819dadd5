// Rank processes that are killed or stopped in latency mode, where the others mask them and go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <limits>
#include <random>
#include <thread>

#include "tests/engine/round_trip.hpp"
#include "tests/engine/shared_report.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kNumRanks = 3;
constexpr int kRoundsAfterwards = 200;

struct Report {
  std::atomic<int> num_at_work;
  std::atomic<int> last_round;
  std::atomic<bool> has_continued;
  std::atomic<int> num_told;
  std::atomic<bool> asks_for_end;
};

Shape masking_shape() {
  Shape shape = latency_shape(kNumRanks);
  shape.mask_late_ranks = true;
  return shape;
}

template <class Condition>
void wait_until(Condition condition) {
  const Deadline limit(60s);
  while (!condition() && !limit.passed()) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(condition());
}

// Each token is the sum over the ranks that it visited, with or without the victim: it may have sent its part before it was
// lost.
void expect_sum_with_or_without(const SmallOutput& output, const SmallInput& input, int victim) {
  for (std::int64_t token = 0; token < output.num_tokens; ++token) {
    std::set<int> ranks;
    for (int k = 0; k < kTopK; ++k) ranks.insert(input.ids[token * kTopK + k] / 2);
    const auto least = static_cast<float>(ranks.size() - ranks.count(victim));
    for (std::int64_t element = token * kHidden; element < (token + 1) * kHidden; ++element) {
      const float row = input.rows[element];
      ASSERT_THAT(output.values[element], testing::AnyOf(least * row, static_cast<float>(ranks.size()) * row));
    }
  }
}

// Rounds of right results; once the victim is masked, `kRoundsAfterwards` more. The ranks are never more than a call apart, so
// all of them see in time which is the last.
void work(const Plan& plan, int rank, int victim, std::chrono::milliseconds deadline, SharedReport<Report>& report) {
  for (int round = 1; round <= report->last_round && !testing::Test::HasFailure(); ++round) {
    const SmallInput input(rank, kNumRanks, round);
    const bool was_masked = !plan.masked_ranks().empty();
    DispatchArgs dispatch = input.dispatch();
    dispatch.timeout = deadline;
    PendingDispatch pending = plan.begin_dispatch(dispatch);
    const Received received = pending.complete();
    expect_rows(received, kNumRanks, round);
    SmallOutput output(input);
    CombineArgs combine = output.combine(received.routing(), received.lane(0));
    combine.timeout = deadline;
    plan.combine(combine);
    const bool is_masked = !plan.masked_ranks().empty();
    if (was_masked) {
      output.expect_sum_without(input, kNumRanks, {victim});
    } else if (is_masked) {
      expect_sum_with_or_without(output, input, victim);
    } else {
      output.expect_sum(input, kNumRanks);
    }
    if (round == 3) ++report->num_at_work;
    int unknown = std::numeric_limits<int>::max();
    if (is_masked || report->asks_for_end) report->last_round.compare_exchange_strong(unknown, round + kRoundsAfterwards);
  }
}

TEST(latency_killed_rank, is_masked_and_the_others_keep_their_results_right) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 12; ++trial) {
    const int victim = trial % kNumRanks;
    SCOPED_TRACE(testing::Message() << "trial " << trial << ": rank " << victim << " is killed");
    SharedReport<Report> report;
    report->last_round = std::numeric_limits<int>::max();
    const TestListener listener = listen_on_loopback();
    RankProcesses processes(kNumRanks, [&](int rank) {
      if (rank != 0) close(listener.fd);
      const Group group = Group::create(make_tcp_exchange(rendezvous_at(listener, rank, kNumRanks)), patient());
      const Plan plan = group.plan(masking_shape());
      work(plan, rank, victim, 30s, report);
      EXPECT_THAT(plan.masked_ranks(), ElementsAre(victim));
      EXPECT_FALSE(group.status().has_value());
      // Nobody leaves before all are done: the group would miss them.
      ++report->num_told;
      wait_until([&] { return report->num_told == kNumRanks - 1; });
    });
    close(listener.fd);
    wait_until([&] { return report->num_at_work == kNumRanks; });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
    processes.send_signal(victim, SIGKILL);
    const std::vector<ProcessResult> results = processes.wait(60s);
    for (int rank = 0; rank < kNumRanks; ++rank) {
      if (rank == victim) {
        EXPECT_EQ(results[rank].signal, SIGKILL);
      } else {
        EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank;
      }
    }
    if (testing::Test::HasFailure()) return;
  }
}

TEST(latency_stopped_rank, is_masked_gets_an_error_when_it_goes_on_and_comes_back_by_recovery) {
  std::mt19937 random(6);
  for (int trial = 0; trial < 6; ++trial) {
    const int victim = trial % kNumRanks;
    SCOPED_TRACE(testing::Message() << "trial " << trial << ": rank " << victim << " is stopped");
    SharedReport<Report> report;
    report->last_round = std::numeric_limits<int>::max();
    const TestListener listener = listen_on_loopback();
    RankProcesses processes(kNumRanks, [&](int rank) {
      if (rank != 0) close(listener.fd);
      const Group group = Group::create(make_tcp_exchange(rendezvous_at(listener, rank, kNumRanks)), patient());
      const Plan plan = group.plan(masking_shape());
      const auto error = error_of([&] { work(plan, rank, victim, 1s, report); });
      if (rank == victim) {
        ASSERT_TRUE(error.has_value());
        EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
        EXPECT_EQ(error->failure().culprit, victim) << error->what();
        EXPECT_NE(error->failure().reporter, victim) << error->what();
        EXPECT_TRUE(group.status().has_value());
      } else {
        ASSERT_FALSE(error.has_value()) << error->what();
        EXPECT_THAT(plan.masked_ranks(), ElementsAre(victim));
        EXPECT_FALSE(group.status().has_value());
        // The stopped rank goes on while the others work, and may finish what it was about to write.
        ++report->num_told;
        wait_until([&] { return report->has_continued.load(); });
      }
      group.recover();
      EXPECT_THAT(plan.masked_ranks(), IsEmpty());
      for (int round = 0; round < 20; ++round) expect_round_trip(plan, rank, kNumRanks, round);
      group.barrier();
    });
    close(listener.fd);
    wait_until([&] { return report->num_at_work == kNumRanks; });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
    processes.send_signal(victim, SIGSTOP);
    // In every other trial it goes on while the others still work.
    if (trial % 2 == 0) {
      wait_until([&] { return report->last_round != std::numeric_limits<int>::max(); });
    } else {
      wait_until([&] { return report->num_told == kNumRanks - 1; });
    }
    processes.send_signal(victim, SIGCONT);
    report->has_continued = true;
    for (const ProcessResult& result : processes.wait(60s)) EXPECT_EQ(result.exit_code, 0);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(latency_stopped_rank, is_waited_for_as_long_as_the_deadline_allows) {
  SharedReport<Report> report;
  report->last_round = std::numeric_limits<int>::max();
  const TestListener listener = listen_on_loopback();
  RankProcesses processes(kNumRanks, [&](int rank) {
    if (rank != 0) close(listener.fd);
    const Group group = Group::create(make_tcp_exchange(rendezvous_at(listener, rank, kNumRanks)), patient());
    const Plan plan = group.plan(masking_shape());
    work(plan, rank, -1, 30s, report);
    EXPECT_THAT(plan.masked_ranks(), IsEmpty());
    group.barrier();
  });
  close(listener.fd);
  wait_until([&] { return report->num_at_work == kNumRanks; });
  for (int victim = 0; victim < kNumRanks; ++victim) {
    processes.send_signal(victim, SIGSTOP);
    std::this_thread::sleep_for(120ms);
    processes.send_signal(victim, SIGCONT);
    std::this_thread::sleep_for(5ms);
  }
  report->asks_for_end = true;
  for (const ProcessResult& result : processes.wait(60s)) EXPECT_EQ(result.exit_code, 0);
}

}  // namespace
}  // namespace tokenyard::test
