// One rank of a group that plays with the small layer of round_trip.hpp.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "tests/engine/meeting_point.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {

struct SmallRank {
  SmallRank(std::shared_ptr<Exchange> exchange, MeetingPoint* meeting_point, const Shape& shape)
      : rank(exchange->rank()),
        num_ranks(exchange->num_ranks()),
        group(Group::create(std::move(exchange), patient())),
        plan(group.plan(shape)),
        input(rank, num_ranks, 0),
        meeting_point_(meeting_point) {}

  // All ranks of the test, whatever they have done before.
  void meet() const { meeting_point_->meet(); }

  // What the short-lived calls of this rank wait for others.
  DispatchArgs dispatch(std::chrono::milliseconds timeout) const {
    DispatchArgs args = input.dispatch();
    args.timeout = timeout;
    return args;
  }
  DispatchArgs cached(const Routing& routing, std::chrono::milliseconds timeout) const {
    DispatchArgs args = input.dispatch(routing);
    args.timeout = timeout;
    return args;
  }

  // Collective: forgets the failure and shows that everything works again.
  void recover_and_go_on() const {
    meet();
    group.recover();
    EXPECT_FALSE(group.status().has_value());
    for (int round = 0; round < 5; ++round) expect_round_trip(plan, rank, num_ranks, round);
    meet();
  }

  int rank;
  int num_ranks;
  Group group;
  Plan plan;
  SmallInput input;

 private:
  MeetingPoint* meeting_point_;
};

inline void run_small_ranks(int num_ranks, const std::function<void(SmallRank&)>& body,
                            const std::optional<Shape>& shape = {}) {
  MeetingPoint meeting_point(num_ranks);
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    SmallRank rank(std::move(exchange), &meeting_point, shape.value_or(small_shape(num_ranks)));
    body(rank);
  });
}

// The combine of a result's rows as they are.
inline CombineArgs combine_of(SmallOutput& output, const Received& received, std::chrono::milliseconds timeout) {
  CombineArgs args = output.combine(received.routing(), received.lane(0));
  args.timeout = timeout;
  return args;
}

}  // namespace tokenyard::test
