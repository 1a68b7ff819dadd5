#include "layout/signal_word.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace tokenyard::test {
namespace {

TEST(routing_numbers, differ_where_slots_have_had_different_numbers_of_turns) {
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t slot = 1; slot <= 64; ++slot) {
    for (std::uint64_t turn = 1; turn <= 64; ++turn) numbers.push_back(routing_number(signal_word(3, turn), slot));
  }
  std::sort(numbers.begin(), numbers.end());
  EXPECT_EQ(std::adjacent_find(numbers.begin(), numbers.end()), numbers.end());
}

TEST(routing_numbers, of_a_million_slots_stay_different_for_as_long_as_a_group_lives) {
  std::vector<std::uint64_t> first_turns;
  for (std::uint64_t slot = 1; slot <= 1'000'000; ++slot) first_turns.push_back(routing_number(signal_word(0, 1), slot));
  std::sort(first_turns.begin(), first_turns.end());
  std::uint64_t least = first_turns.front() - first_turns.back();  // around the end of all numbers
  for (std::size_t i = 1; i < first_turns.size(); ++i) least = std::min(least, first_turns[i] - first_turns[i - 1]);
  EXPECT_GE(least, std::uint64_t{1} << 42);
}

TEST(routing_numbers, are_never_the_one_that_stands_for_no_routing) {
  const std::uint64_t first = routing_number(signal_word(0, 0), 1);
  EXPECT_EQ(routing_number(-first, 1), 1);
}

TEST(call_words, say_what_was_put_into_them) {
  for (int slot = -1; slot < kNumSlots; ++slot) {
    for (const bool segments : {false, true}) {
      const std::uint64_t word = call_word({.kind = CallKind::kCombine,
                                            .in_place_slot = slot,
                                            .with_weights = !segments,
                                            .with_segments = segments,
                                            .carries_rows = !segments,
                                            .routing_id = 0x123456789abcdef0,
                                            .placement = ~std::uint64_t{0}});
      EXPECT_EQ(in_place_slot(word), slot);
      EXPECT_EQ(with_segments(word), segments);
      EXPECT_EQ(carries_rows(word), !segments);
    }
  }
}

TEST(call_words, are_of_the_same_call_unless_they_differ_in_what_ranks_must_agree_on) {
  const GpuCall call{.kind = CallKind::kCachedDispatch, .routing_id = 7, .placement = 11};
  const auto is_same = [&](const auto& change) {
    GpuCall other = call;
    change(&other);
    return is_same_call(call_word(call), call_word(other));
  };
  EXPECT_TRUE(is_same([](GpuCall*) {}));
  EXPECT_TRUE(is_same([](GpuCall* other) { other->in_place_slot = 1; }));
  EXPECT_TRUE(is_same([](GpuCall* other) { other->with_segments = true; }));
  EXPECT_TRUE(is_same([](GpuCall* other) { other->carries_rows = true; }));
  EXPECT_FALSE(is_same([](GpuCall* other) { other->kind = CallKind::kCombine; }));
  EXPECT_FALSE(is_same([](GpuCall* other) { other->with_weights = true; }));
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_FALSE(is_same([&](GpuCall* other) { other->routing_id ^= std::uint64_t{1} << bit; })) << bit;
    EXPECT_FALSE(is_same([&](GpuCall* other) { other->placement ^= std::uint64_t{1} << bit; })) << bit;
  }
  EXPECT_FALSE(is_same([](GpuCall* other) { std::swap(other->routing_id, other->placement); }));
}

}  // namespace
}  // namespace tokenyard::test
