// What groups are put through to find out whether they leave something behind.
#pragma once

#include <array>
#include <barrier>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "tests/engine/round_trip.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/process_growth.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {

// Collective: a round trip in halves, with another call begun meanwhile.
inline void expect_split_round_trip(const Plan& plan, int rank, int num_ranks, int round) {
  const SmallInput input(rank, num_ranks, round);
  PendingDispatch dispatch = plan.begin_dispatch(input.dispatch());
  dispatch.on_done([] {});
  const Received received = dispatch.complete();
  expect_rows(received, num_ranks, round);
  SmallOutput output(input);
  PendingCombine combine = plan.begin_combine(output.combine(received.routing(), received.lane(0)));
  combine.wait(std::chrono::seconds(1));
  combine.complete();
  output.expect_sum(input, num_ranks);
}

// Collective: a group, a window and a plan of each mode, used and let go of.
inline void use_a_group(const std::shared_ptr<Exchange>& exchange, int round) {
  const int rank = exchange->rank();
  const int num_ranks = exchange->num_ranks();
  const Group group = Group::create(exchange, patient());
  const Window window = group.window(5000);
  window.signal((rank + 1) % num_ranks, 0, 7);
  window.wait(0, Compare::kEqual, 7);
  expect_round_trip(group.plan(small_shape(num_ranks)), rank, num_ranks, round);
  expect_split_round_trip(group.plan(latency_shape(num_ranks)), rank, num_ranks, round);
  group.barrier();
}

// Four ranks, and four groups of two of them, so that every rank is in two. Made in this order, no two ranks wait for each
// other crosswise.
inline constexpr int kNumWorldRanks = 4;
inline constexpr std::array<std::array<int, 2>, 4> kPairs{{{0, 1}, {2, 3}, {0, 2}, {1, 3}}};

// Which of a pair a rank is, or nothing.
inline std::optional<int> rank_in_pair(int pair, int world_rank) {
  for (int rank = 0; rank < 2; ++rank) {
    if (kPairs[static_cast<std::size_t>(pair)][static_cast<std::size_t>(rank)] == world_rank) return rank;
  }
  return std::nullopt;
}

// What `world_rank` does: its two groups live at once, and calls on them alternate. `exchange_of` meets the other rank of a
// pair.
inline void use_two_pairs(int world_rank, int round,
                          const std::function<std::shared_ptr<Exchange>(int pair, int rank)>& exchange_of) {
  std::vector<Group> groups;
  std::vector<Plan> plans;
  for (int pair = 0; pair < static_cast<int>(kPairs.size()); ++pair) {
    const std::optional<int> rank = rank_in_pair(pair, world_rank);
    if (!rank) continue;
    groups.push_back(Group::create(exchange_of(pair, *rank), patient()));
    plans.push_back(groups.back().plan(latency_shape(2)));
    plans.push_back(groups.back().plan(small_shape(2)));
  }
  ASSERT_EQ(groups.size(), 2U);
  for (int call = 0; call < 5; ++call) {
    for (const std::size_t group : {0, 1}) {
      expect_split_round_trip(plans[2 * group], groups[group].rank(), 2, round + call);
      expect_round_trip(plans[2 * group + 1], groups[group].rank(), 2, round + call);
    }
  }
  for (const Group& group : groups) group.barrier();
}

// Collective: two threads of this rank use a plan each, of the same group. `between_rounds` is called by one thread while no
// other of this process makes calls: all `num_threads` threads that use `quiet` stand still then.
inline void use_two_plans(const std::shared_ptr<Exchange>& exchange, int num_rounds, int num_calls, std::barrier<>* quiet,
                          const std::function<void()>& between_rounds) {
  const int rank = exchange->rank();
  const int num_ranks = exchange->num_ranks();
  const Group group = Group::create(exchange, patient());
  const std::array<Plan, 2> plans{group.plan(latency_shape(num_ranks)), group.plan(small_shape(num_ranks))};
  const auto run = [&](int plan) {
    for (int round = 0; round < num_rounds; ++round) {
      for (int call = 0; call < num_calls; ++call) {
        if (plan == 0) {
          expect_split_round_trip(plans[0], rank, num_ranks, call);
        } else {
          expect_round_trip(plans[1], rank, num_ranks, call);
        }
      }
      quiet->arrive_and_wait();
      if (plan == 0) between_rounds();
      quiet->arrive_and_wait();
    }
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  group.barrier();
}

}  // namespace tokenyard::test
