#include "tokenyard/window.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/window_exercises.hpp"

namespace tokenyard::test {
namespace {

void run_in_window(int num_ranks, std::size_t num_bytes, const std::function<void(const Group&, const Window&)>& body) {
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    const Window window = group.window(num_bytes);
    body(group, window);
    group.barrier();
  });
}

TEST(window, is_zero_page_aligned_and_equally_large_everywhere) {
  run_in_window(3, 10'000, [](const Group& group, const Window& window) {
    EXPECT_EQ(window.num_bytes(), 10'000);
    EXPECT_EQ(window.rank(), group.rank());
    EXPECT_EQ(window.num_ranks(), 3);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(window.local()) % 4096, 0);
    EXPECT_TRUE(std::all_of(window.local(), window.local() + 10'000, [](std::byte byte) { return byte == std::byte{0}; }));
    EXPECT_EQ(window.mapped(window.rank()), window.local());
    for (const int nobody : {-1, 3, 100'000}) EXPECT_EQ(window.mapped(nobody), nullptr);
  });
}

TEST(window, put_and_get_reach_every_byte_of_every_rank) {
  run_in_window(4, 4 * 100, [](const Group& group, const Window& window) { exercise_put_and_get(group, window); });
}

TEST(window, what_was_put_before_a_signal_is_there_after_the_wait) {
  run_in_window(2, 4096, [](const Group&, const Window& window) { exercise_message_passing(window, 20'000); });
}

TEST(window, messages_pass_around_a_ring_of_more_ranks_than_cores) {
  run_in_window(5, 4096, [](const Group&, const Window& window) { exercise_ring(window, 300); });
}

TEST(window, concurrent_additions_of_all_ranks_add_up) {
  run_in_window(4, 64, [](const Group& group, const Window& window) { exercise_additions(group, window, 5'000); });
}

TEST(window, stores_through_a_mapping_are_released_by_a_signal) {
  run_in_window(2, 4096, [](const Group&, const Window& window) {
    const int peer = 1 - window.rank();
    for (std::uint64_t round = 1; round <= 2'000; ++round) {
      if (window.rank() == 0) {
        std::memset(window.mapped(peer), static_cast<int>(round & 0xff), 1024);
        window.signal(peer, 2048, round);
        window.wait(2048, Compare::kEqual, round);
      } else {
        window.wait(2048, Compare::kEqual, round);
        EXPECT_EQ(window.local()[0], static_cast<std::byte>(round & 0xff));
        EXPECT_EQ(window.local()[1023], static_cast<std::byte>(round & 0xff));
        window.signal(peer, 2048, round);
      }
    }
  });
}

TEST(window, fence_and_quiet_order_flags_that_are_put_as_words) {
  run_in_window(2, 4096, [](const Group&, const Window& window) {
    const int peer = 1 - window.rank();
    for (std::uint64_t round = 1; round <= 500; ++round) {
      window.put(peer, 0, &round, sizeof(round));
      window.fence(peer);
      window.put(peer, 8, &round, sizeof(round));
      window.quiet();
      window.signal(peer, 16, round);
      window.wait(16, Compare::kGreaterEqual, round);
      std::uint64_t words[2];
      window.get(window.rank(), 0, words, sizeof(words));
      EXPECT_EQ(words[0], round);
      EXPECT_EQ(words[1], round);
      window.signal(peer, 24, round);
      window.wait(24, Compare::kEqual, round);
    }
  });
}

TEST(window, several_threads_of_a_rank_use_one_window) {
  run_in_window(2, 4096, [](const Group& group, const Window& window) {
    std::vector<std::thread> threads;
    for (std::size_t lane = 0; lane < 3; ++lane) {
      threads.emplace_back([&window, lane] {
        const int peer = 1 - window.rank();
        for (std::uint64_t round = 1; round <= 500; ++round) {
          window.atomic_add(peer, 0, 1);
          window.signal(peer, 8 + 8 * lane, round);
          window.wait(8 + 8 * lane, Compare::kGreaterEqual, round);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    group.barrier();
    EXPECT_EQ(window.load(0), 1'500);
  });
}

TEST(window, compares_as_asked_and_returns_what_it_saw) {
  run_in_window(1, 64, [](const Group&, const Window& window) {
    window.signal(0, 8, 5);
    EXPECT_EQ(window.load(8), 5);
    EXPECT_EQ(window.wait(8, Compare::kEqual, 5), 5);
    EXPECT_EQ(window.wait(8, Compare::kNotEqual, 4), 5);
    EXPECT_EQ(window.wait(8, Compare::kGreaterEqual, 3), 5);
    EXPECT_EQ(window.atomic_add(0, 8, std::numeric_limits<std::uint64_t>::max()), 5) << "the sum wraps around";
    EXPECT_EQ(window.load(8), 4);
    EXPECT_THROW(window.wait(8, Compare::kNotEqual, 4, 1ms), Error);
    EXPECT_THROW(window.wait(8, Compare::kGreaterEqual, 5, 1ms), Error);
  });
}

TEST(window, a_wait_that_ends_without_success_says_what_was_expected_and_what_is) {
  run_in_window(2, 64, [](const Group& group, const Window& window) {
    window.signal(window.rank(), 40, 7);
    const auto error = error_of([&] { window.wait(40, Compare::kGreaterEqual, 9, 50ms); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kTimeout);
    EXPECT_EQ(error->failure().phase, Phase::kWindowWait);
    EXPECT_EQ(error->failure().culprit, -1) << "a window does not know who should have written";
    EXPECT_EQ(error->failure().reporter, window.rank());
    EXPECT_THAT(error->what(), testing::HasSubstr("rank " + std::to_string(window.rank()) + " waited"));
    EXPECT_THAT(error->what(), testing::HasSubstr("the word at offset 40 of its window to be >= 9; it is 7"));
    EXPECT_FALSE(group.status().has_value()) << "a word that nobody writes is the user's affair, not a failure of the group";
    expect_error([&] { window.wait(40, Compare::kEqual, 9, 0ms); }, ErrorCode::kTimeout, "to be == 9; it is 7");
    expect_error([&] { window.wait(40, Compare::kNotEqual, 7, -1ms); }, ErrorCode::kTimeout, "to be != 7; it is 7");
  });
}

TEST(window, the_timeout_of_a_wait_is_the_groups_unless_given) {
  run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) {
    const Window window = Group::create(std::move(exchange), patient(40ms)).window(8);
    const Deadline watch(1h);
    EXPECT_THROW(window.wait(0, Compare::kEqual, 1), Error);
    EXPECT_GE(watch.elapsed(), 40ms);
    EXPECT_LT(watch.elapsed(), 5s);
  });
}

TEST(window, ranks_and_bytes_outside_it_are_refused_with_the_limits) {
  run_in_window(2, 100, [](const Group&, const Window& window) {
    std::byte bytes[200] = {};
    constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max();
    const struct {
      int peer;
      std::size_t offset, num_bytes;
      const char* text;
    } cases[] = {
        {-1, 0, 1, "rank -1 was named and the window has ranks 0 to 1"},
        {2, 0, 1, "rank 2 was named and the window has ranks 0 to 1"},
        {0, 0, 101, "101 bytes at offset 0 were named and the window has 100"},
        {1, 100, 1, "1 bytes at offset 100 were named and the window has 100"},
        {1, 99, 2, "2 bytes at offset 99"},
        {1, 101, 0, "0 bytes at offset 101"},
        {1, kHuge, 2, "2 bytes at offset 18446744073709551615"},
        {1, 50, kHuge, "18446744073709551615 bytes at offset 50"},
    };
    for (const auto& wrong : cases) {
      expect_error([&] { window.put(wrong.peer, wrong.offset, bytes, wrong.num_bytes); }, ErrorCode::kInvalidArgument,
                   wrong.text);
      expect_error([&] { window.get(wrong.peer, wrong.offset, bytes, wrong.num_bytes); }, ErrorCode::kInvalidArgument,
                   wrong.text);
    }
    for (const int nobody : {-1, 2}) {
      expect_error([&] { window.fence(nobody); }, ErrorCode::kInvalidArgument, "was named and the window has ranks 0 to 1");
      expect_error([&] { window.signal(nobody, 0, 1); }, ErrorCode::kInvalidArgument, "was named");
    }
    window.put(1, 100, bytes, 0);
    window.put(window.rank(), 99, bytes, 1);
  });
}

TEST(window, words_outside_it_or_across_words_are_refused) {
  run_in_window(1, 100, [](const Group&, const Window& window) {
    for (const std::size_t offset : {std::size_t{1}, std::size_t{4}, std::size_t{15}}) {
      expect_error([&] { window.signal(0, offset, 1); }, ErrorCode::kInvalidArgument, "not a multiple of 8");
      expect_error([&] { window.atomic_add(0, offset, 1); }, ErrorCode::kInvalidArgument, "not a multiple of 8");
      expect_error([&] { window.load(offset); }, ErrorCode::kInvalidArgument, "not a multiple of 8");
      expect_error([&] { window.wait(offset, Compare::kEqual, 0); }, ErrorCode::kInvalidArgument, "not a multiple of 8");
    }
    for (const std::size_t offset : {std::size_t{96}, std::size_t{104}, std::numeric_limits<std::size_t>::max() - 7}) {
      expect_error([&] { window.signal(0, offset, 1); }, ErrorCode::kInvalidArgument, "the window has 100");
      expect_error([&] { window.atomic_add(0, offset, 1); }, ErrorCode::kInvalidArgument, "the window has 100");
      expect_error([&] { window.load(offset); }, ErrorCode::kInvalidArgument, "the window has 100");
      expect_error([&] { window.wait(offset, Compare::kEqual, 0); }, ErrorCode::kInvalidArgument, "the window has 100");
    }
    window.signal(0, 88, 3);
    EXPECT_EQ(window.load(88), 3);
  });
}

TEST(window, null_pointers_are_refused_unless_there_is_nothing_to_move) {
  run_in_window(1, 100, [](const Group&, const Window& window) {
    expect_error([&] { window.put(0, 0, nullptr, 1); }, ErrorCode::kInvalidArgument, "the source of a put is a null pointer");
    expect_error([&] { window.get(0, 0, nullptr, 1); }, ErrorCode::kInvalidArgument,
                 "the destination of a get is a null pointer");
    window.put(0, 0, nullptr, 0);
    window.get(0, 100, nullptr, 0);
  });
}

TEST(window, an_empty_window_has_no_bytes_and_no_words) {
  run_in_window(2, 0, [](const Group&, const Window& window) {
    EXPECT_EQ(window.num_bytes(), 0);
    window.put(1, 0, nullptr, 0);
    window.quiet();
    expect_error([&] { window.load(0); }, ErrorCode::kInvalidArgument, "the window has 0");
  });
}

TEST(window, sizes_that_disagree_name_ranks_and_sizes) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    const auto error = error_of([&] { group.window(rank == 2 ? 128 : 64); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), testing::HasSubstr(rank == 2 ? "a window is 128 bytes on rank 2 and 64 on rank 0"
                                                            : "and 128 on rank 2: all ranks must ask for the same size"));
    EXPECT_EQ(error->failure().culprit, rank == 2 ? 0 : 2);
    EXPECT_EQ(group.window(64).num_bytes(), 64) << "and the next one works";
    group.barrier();
  });
}

TEST(window, more_memory_than_there_is_is_an_error_on_all_ranks) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    expect_error([&] { group.window(std::numeric_limits<std::size_t>::max()); }, ErrorCode::kSystem,
                 "18446744073709551615 bytes");
    EXPECT_EQ(group.window(64).num_bytes(), 64);
    group.barrier();
  });
}

TEST(window, many_windows_are_kept_apart) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    std::vector<Window> windows;
    for (std::uint64_t i = 0; i < 40; ++i) windows.push_back(group.window(8 + 8 * i));
    for (std::uint64_t i = 0; i < 40; ++i) windows[i].signal(1 - group.rank(), 8 * i, i + 1);
    for (std::uint64_t i = 0; i < 40; ++i) EXPECT_EQ(windows[i].wait(8 * i, Compare::kNotEqual, 0), i + 1);
    group.barrier();
  });
}

}  // namespace
}  // namespace tokenyard::test
