// An Exchange on a function that gathers blocks: what the function may do wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "exchange/limits.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Changes the blocks that rank 0 gets, in the second round and later.
using Change = std::function<void(std::span<std::byte> blocks, std::size_t block_bytes)>;

std::optional<Error> error_after(const Change& change, std::size_t num_message_bytes = 10) {
  const auto inner = make_thread_exchange(2);
  std::optional<Error> seen;
  errors_of_ranks(2, [&](int rank) {
    int num_calls = 0;
    const GatherBlocks gather = gather_through(inner[rank]);
    const auto exchange = make_callback_exchange(rank, 2, [&](auto block, auto blocks, auto timeout) {
      gather(block, blocks, timeout);
      if (++num_calls > 1 && rank == 0) change(blocks, block.size());
    });
    exchange->barrier(kAmple);
    const auto error = error_of([&] { exchange->all_gather(std::vector<std::byte>(num_message_bytes), 500ms); });
    if (rank != 0) return;
    seen = error;
    const auto again = error_of([&] { exchange->barrier(kAmple); });
    ASSERT_TRUE(error && again);
    EXPECT_EQ(again->code(), error->code());
    EXPECT_THAT(again->what(), AllOf(HasSubstr("this Exchange is over"), HasSubstr(error->what())));
  });
  return seen;
}

void expect_disagreement(const Change& change, const std::string& text, std::size_t num_message_bytes = 10) {
  const auto error = error_after(change, num_message_bytes);
  ASSERT_TRUE(error) << text;
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("Exchange, round 2"), HasSubstr(text)));
}

void overwrite(std::span<std::byte> bytes, std::size_t offset, std::uint32_t number) {
  for (std::size_t i = 0; i < 4; ++i) bytes[offset + i] = static_cast<std::byte>(number >> (8 * i));
}

TEST(callback_exchange, blocks_that_were_not_filled_are_noticed) {
  expect_disagreement([](auto blocks, std::size_t) { std::ranges::fill(blocks, std::byte{0}); }, "this rank's own block");
  expect_disagreement([](auto blocks, std::size_t size) { std::ranges::fill(blocks.subspan(size), std::byte{0}); },
                      "at place 1 is no block of Tokenyard");
}

TEST(callback_exchange, blocks_in_another_order_are_noticed) {
  expect_disagreement(
      [](auto blocks, std::size_t size) { std::swap_ranges(blocks.begin(), blocks.begin() + size, blocks.begin() + size); },
      "did not put this rank's own block at place 0");
  expect_disagreement([](auto blocks, std::size_t size) { std::copy_n(blocks.begin(), size, blocks.begin() + size); },
                      "the block at place 1 is that of rank 0");
}

TEST(callback_exchange, blocks_that_do_not_fit_are_noticed) {
  expect_disagreement([](auto blocks, std::size_t size) { overwrite(blocks, size + 8, 77); }, "rank 1 speaks version 77");
  expect_disagreement([](auto blocks, std::size_t size) { overwrite(blocks, size + 16, 3); }, "rank 1 was made for 3 ranks");
  expect_disagreement([](auto blocks, std::size_t size) { overwrite(blocks, size + 24, 9); }, "rank 1 is in round 9");
}

TEST(callback_exchange, a_length_beyond_the_limit_is_noticed) {
  for (const std::uint32_t length : {static_cast<std::uint32_t>(kMaxMessageBytes + 1), 0xffffffffu}) {
    expect_disagreement([&](auto blocks, std::size_t size) { overwrite(blocks, size + 20, length); },
                        "rank 1 announces " + std::to_string(length) + " bytes");
  }
}

TEST(callback_exchange, long_messages_are_gathered_in_a_second_step_whose_blocks_are_checked_too) {
  expect_disagreement(
      [](auto blocks, std::size_t size) {
        if (size == 5000) std::ranges::fill(blocks, std::byte{1});
      },
      "this rank's own block", 5000);
}

TEST(callback_exchange, errors_of_the_function_are_passed_on) {
  const auto exchange = make_callback_exchange(
      1, 4, [](auto, auto, auto) { throw Error(Failure{ErrorCode::kPeerLost, Phase::kNone, 3, 2}, "rank 3 went away"); });
  const auto error = error_of([&] { exchange->barrier(kAmple); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kPeerLost);
  EXPECT_EQ(error->failure().culprit, 3);
  EXPECT_EQ(error->failure().reporter, 2);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("round 1"), HasSubstr("rank 3 went away")));
}

TEST(callback_exchange, whatever_else_the_function_throws_is_an_error_too) {
  const GatherBlocks throwers[] = {[](auto, auto, auto) { throw std::runtime_error("MPI_ERR_COMM"); },
                                   [](auto, auto, auto) { throw 42; }};
  for (const GatherBlocks& thrower : throwers) {
    const auto exchange = make_callback_exchange(1, 4, thrower);
    const auto error = error_of([&] { exchange->barrier(kAmple); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kSystem);
    EXPECT_EQ(error->failure().reporter, 1);
  }
}

TEST(callback_exchange, the_function_is_told_how_long_it_may_take) {
  std::vector<std::chrono::milliseconds> limits;
  const auto exchange = make_callback_exchange(0, 1, [&](auto block, auto blocks, std::chrono::milliseconds timeout) {
    limits.push_back(timeout);
    std::this_thread::sleep_for(20ms);
    std::ranges::copy(block, blocks.begin());
  });
  exchange->all_gather(std::vector<std::byte>(1000), 5s);
  ASSERT_EQ(limits.size(), 2u);
  EXPECT_LE(limits[0], 5s);
  EXPECT_GT(limits[0], 4s);
  EXPECT_LE(limits[1], limits[0] - 20ms);
}

TEST(callback_exchange, an_impossible_request_is_refused) {
  const GatherBlocks gather = [](auto, auto, auto) {};
  for (const auto& [rank, num_ranks] : {std::pair{0, 0}, {0, kMaxRanks + 1}, {-1, 2}, {2, 2}}) {
    const auto error = error_of([&, rank = rank, num_ranks = num_ranks] { make_callback_exchange(rank, num_ranks, gather); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(error_of([] { make_callback_exchange(0, 1, {}); })->code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tokenyard::test
