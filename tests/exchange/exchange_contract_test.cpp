// What every kind of Exchange promises.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "exchange/limits.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Kind {
  const char* name;
  Exchanges (*make)(int num_ranks);
};

// Directories outlive the exchanges that a test makes in them.
Exchanges make_directory_ranks_anywhere(int num_ranks) {
  static const TemporaryDirectory directory;
  static int num_jobs = 0;
  return make_directory_ranks(directory.path(), num_ranks, "job-" + std::to_string(++num_jobs));
}

class ExchangeContract : public testing::TestWithParam<Kind> {
 protected:
  static Exchanges make(int num_ranks) { return GetParam().make(num_ranks); }
};

INSTANTIATE_TEST_SUITE_P(kinds, ExchangeContract,
                         testing::Values(Kind{"threads", make_thread_exchange}, Kind{"tcp", make_tcp_ranks},
                                         Kind{"tcp_with_secret", make_secret_tcp_ranks},
                                         Kind{"directory", make_directory_ranks_anywhere},
                                         Kind{"callback", make_callback_ranks}),
                         [](const auto& kind) { return std::string(kind.param.name); });

// A message whose length and contents depend on rank and round; some are empty.
std::vector<std::byte> message_of(int rank, int round) {
  std::vector<std::byte> bytes(static_cast<std::size_t>((rank * 37 + round * 11) % 200));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(rank + round + static_cast<int>(i));
  return bytes;
}

TEST_P(ExchangeContract, gathers_in_rank_order_again_and_again) {
  const int num_ranks = 7;
  const auto exchanges = make(num_ranks);
  run_ranks(num_ranks, [&](int rank) {
    ASSERT_EQ(exchanges[rank]->rank(), rank);
    ASSERT_EQ(exchanges[rank]->num_ranks(), num_ranks);
    for (int round = 0; round < 300; ++round) {
      const auto messages = exchanges[rank]->all_gather(message_of(rank, round), kAmple);
      ASSERT_EQ(messages.size(), 7u);
      for (int source = 0; source < num_ranks; ++source) ASSERT_EQ(messages[source], message_of(source, round));
    }
  });
}

TEST_P(ExchangeContract, gathers_messages_of_the_largest_size) {
  const auto exchanges = make(3);
  const std::vector<std::byte> largest(kMaxMessageBytes, std::byte{42});
  run_ranks(3, [&](int rank) {
    const auto messages = exchanges[rank]->all_gather(largest, kAmple);
    for (const auto& message : messages) ASSERT_EQ(message, largest);
  });
}

TEST_P(ExchangeContract, one_rank_meets_itself) {
  const auto exchanges = make(1);
  EXPECT_EQ(exchanges[0]->all_gather(to_bytes("alone"), 0ms).at(0), to_bytes("alone"));
  exchanges[0]->barrier(kAmple);
}

TEST_P(ExchangeContract, barrier_holds_until_all_have_come) {
  const auto exchanges = make(3);
  std::atomic<bool> late_has_come{false};
  run_ranks(3, [&](int rank) {
    if (rank == 1) {
      std::this_thread::sleep_for(100ms);
      late_has_come = true;
    }
    exchanges[rank]->barrier(kAmple);
    EXPECT_TRUE(late_has_come);
  });
}

TEST_P(ExchangeContract, accepts_a_timeout_without_end) {
  const auto exchanges = make(2);
  run_ranks(2, [&](int rank) { exchanges[rank]->barrier(std::chrono::milliseconds::max()); });
}

TEST_P(ExchangeContract, timeout_names_missing_ranks_on_every_waiting_rank) {
  const auto exchanges = make(4);
  run_ranks(4, [&](int rank) { exchanges[rank]->barrier(kAmple); });
  const auto errors = errors_of_ranks(4, [&](int rank) {
    if (rank % 2 == 0) exchanges[rank]->barrier(300ms);
  });
  for (const int rank : {0, 2}) {
    ASSERT_TRUE(errors[rank]);
    EXPECT_EQ(errors[rank]->code(), ErrorCode::kTimeout);
    EXPECT_EQ(errors[rank]->failure().culprit, 1);
    EXPECT_EQ(errors[rank]->failure().phase, Phase::kRendezvous);
    EXPECT_THAT(errors[rank]->what(), AllOf(HasSubstr("round 2"), HasSubstr("300 ms"), HasSubstr("ranks 1, 3 of 4")));
  }
}

TEST_P(ExchangeContract, first_deadline_ends_the_round_for_all) {
  const auto exchanges = make(4);
  const Deadline patience(10s);
  const auto errors = errors_of_ranks(4, [&](int rank) {
    if (rank != 3) exchanges[rank]->barrier(rank == 2 ? 400ms : kAmple);
  });
  for (const int rank : {0, 1, 2}) {
    ASSERT_TRUE(errors[rank]);
    EXPECT_EQ(errors[rank]->failure().culprit, 3);
    EXPECT_EQ(errors[rank]->failure().reporter, 2);
    EXPECT_THAT(errors[rank]->what(), HasSubstr("rank 2 waited 400 ms for rank 3 of 4"));
  }
  EXPECT_FALSE(patience.passed());
}

TEST_P(ExchangeContract, an_exchange_that_timed_out_stays_over) {
  const auto exchanges = make(3);
  const auto first = errors_of_ranks(3, [&](int rank) {
    if (rank != 1) exchanges[rank]->barrier(100ms);
  });
  // The late rank finds out as soon as it comes, the others at once.
  const auto second = errors_of_ranks(3, [&](int rank) { exchanges[rank]->barrier(kAmple); });
  for (int rank = 0; rank < 3; ++rank) {
    ASSERT_TRUE(second[rank]);
    EXPECT_EQ(second[rank]->code(), ErrorCode::kTimeout);
    EXPECT_EQ(second[rank]->failure().culprit, 1);
    EXPECT_THAT(second[rank]->what(), AllOf(HasSubstr("round 1"), HasSubstr("rank 1 of 3")));
  }
  EXPECT_FALSE(first[1]);
}

TEST_P(ExchangeContract, rank_zero_is_named_when_it_does_not_come) {
  const auto exchanges = make(3);
  const auto errors = errors_of_ranks(3, [&](int rank) {
    if (rank != 0) exchanges[rank]->barrier(100ms);
  });
  for (const int rank : {1, 2}) {
    ASSERT_TRUE(errors[rank]);
    EXPECT_EQ(errors[rank]->code(), ErrorCode::kTimeout);
    EXPECT_EQ(errors[rank]->failure().culprit, 0);
    EXPECT_THAT(errors[rank]->what(), HasSubstr("for rank 0"));
  }
  const auto late = error_of([&] { exchanges[0]->barrier(kAmple); });
  ASSERT_TRUE(late);
  EXPECT_EQ(late->code(), ErrorCode::kTimeout);
  EXPECT_EQ(late->failure().culprit, 0);
}

TEST_P(ExchangeContract, a_rank_that_leaves_is_named_by_those_who_wait) {
  for (int leaver = 0; leaver < 3; ++leaver) {
    auto exchanges = make(3);
    const auto errors = errors_of_ranks(3, [&](int rank) {
      if (rank == leaver) {
        std::this_thread::sleep_for(50ms);
        exchanges[rank].reset();
      } else {
        exchanges[rank]->barrier(kAmple);
      }
    });
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == leaver) continue;
      ASSERT_TRUE(errors[rank]);
      EXPECT_EQ(errors[rank]->code(), ErrorCode::kPeerLost);
      EXPECT_EQ(errors[rank]->failure().culprit, leaver);
      EXPECT_THAT(errors[rank]->what(), HasSubstr("rank " + std::to_string(leaver)));
    }
  }
}

TEST_P(ExchangeContract, a_rank_that_left_before_is_named_too) {
  auto exchanges = make(3);
  exchanges[2].reset();
  const auto errors = errors_of_ranks(2, [&](int rank) { exchanges[rank]->barrier(kAmple); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kPeerLost);
    EXPECT_EQ(error->failure().culprit, 2);
  }
}

TEST_P(ExchangeContract, a_finished_round_is_delivered_though_ranks_leave_at_once) {
  for (int round = 0; round < 50; ++round) {
    auto exchanges = make(3);
    run_ranks(3, [&](int rank) {
      const auto messages = exchanges[rank]->all_gather(message_of(rank, round), kAmple);
      exchanges[rank].reset();
      for (int source = 0; source < 3; ++source) ASSERT_EQ(messages[source], message_of(source, round));
    });
  }
}

TEST_P(ExchangeContract, a_message_too_long_is_refused_and_harmless) {
  const auto exchanges = make(2);
  const std::vector<std::byte> too_long(kMaxMessageBytes + 1);
  const auto error = error_of([&] { exchanges[1]->all_gather(too_long, kAmple); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("1048577 bytes"), HasSubstr("1048576 bytes"), HasSubstr("Window")));
  run_ranks(2, [&](int rank) { exchanges[rank]->barrier(kAmple); });
}

TEST(thread_exchange, refuses_impossible_numbers_of_ranks) {
  for (const int num_ranks : {-1, 0, kMaxRanks + 1}) {
    const auto error = error_of([&] { make_thread_exchange(num_ranks); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), AllOf(HasSubstr(std::to_string(num_ranks)), HasSubstr("2048")));
  }
}

}  // namespace
}  // namespace tokenyard::test
