#include "base/trace_ring.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace tokenyard::test {
namespace {

TraceEvent event_of_turn(std::uint64_t turn) {
  TraceEvent event;
  event.turn = turn;
  return event;
}

TEST(trace_ring, gives_events_in_the_order_of_their_recording) {
  TraceRing ring;
  std::uint64_t next = 0;
  for (std::uint64_t turn = 0; turn < 3 * TraceRing::kCapacity; ++turn) {
    ring.push(event_of_turn(turn));
    if (turn % 1000 == 0) ring.drain([&](const TraceEvent& event) { EXPECT_EQ(event.turn, next++); });
  }
  ring.drain([&](const TraceEvent& event) { EXPECT_EQ(event.turn, next++); });
  EXPECT_EQ(next, 3 * TraceRing::kCapacity);
  EXPECT_EQ(ring.take_num_dropped(), 0);
}

TEST(trace_ring, a_full_ring_drops_and_counts_what_comes_later) {
  TraceRing ring;
  for (std::uint64_t turn = 0; turn < TraceRing::kCapacity + 7; ++turn) ring.push(event_of_turn(turn));
  EXPECT_EQ(ring.take_num_dropped(), 7);
  EXPECT_EQ(ring.take_num_dropped(), 0);
  std::uint64_t num_events = 0;
  ring.drain([&](const TraceEvent& event) { EXPECT_EQ(event.turn, num_events++); });
  EXPECT_EQ(num_events, TraceRing::kCapacity);
}

TEST(trace_ring, every_event_is_given_or_counted_while_both_sides_run) {
  constexpr std::uint64_t kNumEvents = 300'000;
  TraceRing ring;
  std::atomic<bool> is_over = false;
  std::thread producer([&] {
    for (std::uint64_t turn = 0; turn < kNumEvents; ++turn) ring.push(event_of_turn(turn));
    is_over = true;
  });
  std::uint64_t num_events = 0;
  std::uint64_t last = 0;
  bool is_last_look = false;
  while (!is_last_look) {
    is_last_look = is_over;
    ring.drain([&](const TraceEvent& event) {
      EXPECT_TRUE(num_events == 0 || event.turn > last);
      last = event.turn;
      ++num_events;
    });
  }
  producer.join();
  EXPECT_EQ(num_events + ring.take_num_dropped(), kNumEvents);
}

}  // namespace
}  // namespace tokenyard::test
