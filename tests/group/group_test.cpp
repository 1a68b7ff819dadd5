#include "tokenyard/group.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::test {
namespace {

GroupOptions in_domain(int domain) {
  GroupOptions options;
  options.domain = domain;
  return options;
}

std::vector<int> domains_of(const Group& group) {
  std::vector<int> domains;
  for (int rank = 0; rank < group.num_ranks(); ++rank) domains.push_back(group.domain_of(rank));
  return domains;
}

TEST(group, threads_of_a_process_are_one_domain) {
  run_thread_ranks(5, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    EXPECT_EQ(group.rank(), rank);
    EXPECT_EQ(group.num_ranks(), 5);
    EXPECT_EQ(group.num_domains(), 1);
    EXPECT_EQ(domains_of(group), std::vector<int>({0, 0, 0, 0, 0}));
    EXPECT_EQ(group.timeout(), 30s);
    EXPECT_FALSE(group.status().has_value());
    group.barrier();
  });
}

TEST(group, a_rank_alone_is_a_group) {
  run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    EXPECT_EQ(group.num_domains(), 1);
    expect_round_trip(group.plan(small_shape(1)), 0, 1, 0);
  });
}

TEST(group, ranks_that_do_not_exist_have_no_domain) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), patient());
    EXPECT_EQ(group.domain_of(-1), -1);
    EXPECT_EQ(group.domain_of(2), -1);
  });
}

TEST(group, domains_can_be_overridden_and_are_numbered_by_their_first_ranks) {
  run_thread_ranks(6, [](std::shared_ptr<Exchange> exchange) {
    const int wanted[] = {7, 3, 7, 3, 0, 7};
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), in_domain(wanted[rank]));
    EXPECT_EQ(group.num_domains(), 3);
    EXPECT_EQ(domains_of(group), std::vector<int>({0, 1, 0, 1, 2, 0}));
  });
}

TEST(group, ranks_with_and_without_a_domain_number_are_apart) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    GroupOptions options;
    if (exchange->rank() == 1) options.domain = 0;
    const Group group = Group::create(std::move(exchange), options);
    EXPECT_EQ(domains_of(group), std::vector<int>({0, 1, 0}));
  });
}

TEST(group, a_plan_across_domains_is_unsupported_and_says_why) {
  run_thread_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), in_domain(rank / 2));
    expect_error([&] { group.plan(small_shape(4)); }, ErrorCode::kUnsupported,
                 "the group spans 2 domains, and this version has no network between domains");
    EXPECT_FALSE(group.status().has_value()) << "nothing has gone wrong in the group itself";
    group.barrier();
  });
}

TEST(group, a_window_across_domains_works_inside_them_and_names_the_rank_outside) {
  run_thread_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), in_domain(rank / 2));
    const Window window = group.window(64);
    const int neighbour = rank ^ 1;
    const int stranger = (rank + 2) % 4;
    window.signal(neighbour, 0, 5 + static_cast<std::uint64_t>(rank));
    EXPECT_EQ(window.wait(0, Compare::kNotEqual, 0), 5 + static_cast<std::uint64_t>(neighbour));
    EXPECT_NE(window.mapped(neighbour), nullptr);
    EXPECT_EQ(window.mapped(stranger), nullptr);
    const std::string text = "rank " + std::to_string(stranger) + " is in another domain";
    std::uint64_t word = 0;
    expect_error([&] { window.put(stranger, 0, &word, 8); }, ErrorCode::kUnsupported, text.c_str());
    expect_error([&] { window.get(stranger, 0, &word, 8); }, ErrorCode::kUnsupported, text.c_str());
    expect_error([&] { window.signal(stranger, 0, 1); }, ErrorCode::kUnsupported, text.c_str());
    expect_error([&] { window.atomic_add(stranger, 0, 1); }, ErrorCode::kUnsupported, text.c_str());
    expect_error([&] { window.fence(stranger); }, ErrorCode::kUnsupported, text.c_str());
    group.barrier();
  });
}

TEST(group, options_are_checked_with_value_and_limit) {
  run_thread_ranks(1, [](std::shared_ptr<Exchange> exchange) {
    expect_error([] { Group::create(nullptr); }, ErrorCode::kInvalidArgument, "the pointer given is null");
    expect_error([&] { Group::create(exchange, patient(0ms)); }, ErrorCode::kInvalidArgument, "timeout is 0 ms");
    expect_error([&] { Group::create(exchange, patient(-5ms)); }, ErrorCode::kInvalidArgument, "timeout is -5 ms");
    expect_error([&] { Group::create(exchange, in_domain(-2)); }, ErrorCode::kInvalidArgument, "domain is -2");
    EXPECT_EQ(Group::create(exchange, patient(1s)).num_ranks(), 1) << "the Exchange is still usable";
  });
}

TEST(group, a_number_of_sms_without_a_gpu_is_refused) {
  GroupOptions options = patient();
  options.num_sms = 8;
  expect_error([&] { Group::create(make_thread_exchange(1)[0], options); }, ErrorCode::kInvalidArgument,
               "num_sms is 8, but the group has no device");
}

TEST(group, without_a_device_ranks_are_in_host_memory) {
  EXPECT_EQ(Group::create(make_thread_exchange(1)[0], patient()).device(), std::nullopt);
}

TEST(group, a_gpu_where_there_is_none_is_unsupported_and_the_text_says_what_is_missing) {
  GroupOptions options = patient();
  options.device = 0;
  try {
    EXPECT_EQ(Group::create(make_thread_exchange(1)[0], options).device(), 0);  // a host with one
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
    EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr("has no CUDA"), testing::HasSubstr("no GPU is visible"),
                                             testing::HasSubstr("install a newer driver")));
  }
}

TEST(group, endless_timeouts_are_fine) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient(std::chrono::milliseconds::max()));
    expect_round_trip(group.plan(small_shape(2)), rank, 2, 0);
    group.barrier();
  });
}

// Passes everything on, but changes this rank's first message.
class AlteredExchange final : public Exchange {
 public:
  using Change = std::function<void(std::vector<std::byte>*)>;
  AlteredExchange(std::shared_ptr<Exchange> inner, Change change) : inner_(std::move(inner)), change_(std::move(change)) {}
  int rank() const noexcept override { return inner_->rank(); }
  int num_ranks() const noexcept override { return inner_->num_ranks(); }
  std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    std::vector<std::byte> altered(bytes.begin(), bytes.end());
    if (change_) std::exchange(change_, nullptr)(&altered);
    return inner_->all_gather(altered, timeout);
  }

 private:
  std::shared_ptr<Exchange> inner_;
  Change change_;
};

TEST(group, ranks_of_different_versions_find_out_who_differs) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    if (exchange->rank() == 1) {
      const auto next_version = [](std::vector<std::byte>* bytes) {
        const unsigned version = kWireVersion + 1;
        std::memcpy(bytes->data(), &version, sizeof(version));
      };
      exchange = std::make_shared<AlteredExchange>(exchange, next_version);
    }
    const std::string complaint = "rank 1 speaks version " + std::to_string(kWireVersion + 1);
    expect_error([&] { Group::create(exchange, patient()); }, ErrorCode::kDisagreement, complaint.c_str());
  });
}

TEST(group, an_introduction_of_another_length_is_another_version) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    if (exchange->rank() == 0) {
      exchange = std::make_shared<AlteredExchange>(exchange, [](std::vector<std::byte>* bytes) { bytes->resize(12); });
    }
    expect_error([&] { Group::create(exchange, patient()); }, ErrorCode::kDisagreement,
                 "rank 0 introduced itself with 12 bytes");
  });
}

TEST(group, ranks_that_make_different_calls_are_told_which) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    const auto window = [&] { group.window(64); };
    const auto plan = [&] { group.plan(small_shape(2)); };
    const auto barrier = [&] { group.barrier(); };
    const auto recover = [&] { group.recover(); };
    const auto expect_mismatch = [&](const auto& of_rank_0, const char* name_0, const auto& of_rank_1, const char* name_1) {
      const std::string mine = rank == 0 ? name_0 : name_1;
      const std::string other = rank == 0 ? name_1 : name_0;
      const std::string text =
          "rank " + std::to_string(rank) + " calls " + mine + " and rank " + std::to_string(1 - rank) + " " + other;
      const auto error = error_of([&] { rank == 0 ? of_rank_0() : of_rank_1(); });
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
      EXPECT_EQ(error->failure().culprit, 1 - rank);
      EXPECT_EQ(error->failure().reporter, rank);
      EXPECT_THAT(error->what(), testing::HasSubstr(text));
    };
    expect_mismatch(window, "Group::window", plan, "Group::plan");
    expect_mismatch(barrier, "Group::barrier", recover, "Group::recover");
    expect_mismatch(plan, "Group::plan", barrier, "Group::barrier");
    expect_round_trip(group.plan(small_shape(2)), rank, 2, 3);
    group.barrier();
  });
}

TEST(group, several_groups_of_one_process_live_side_by_side) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group first = Group::create(exchange, patient());
    const Group second = Group::create(exchange, patient());
    const Plan plan_of_first = first.plan(small_shape(3));
    const Plan plan_of_second = second.plan(small_shape(3));
    for (int round = 0; round < 5; ++round) {
      expect_round_trip(plan_of_first, rank, 3, round);
      expect_round_trip(plan_of_second, rank, 3, round + 20);
    }
    first.barrier();
  });
}

TEST(group, copies_share_the_group) {
  run_thread_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    std::optional<Group> group = Group::create(std::move(exchange), patient());
    const Group copy = *group;
    group.reset();
    expect_round_trip(copy.plan(small_shape(2)), rank, 2, 1);
    copy.barrier();
  });
}

TEST(group, plans_windows_and_results_outlive_their_group) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    std::optional<Group> group = Group::create(std::move(exchange), patient());
    const Window window = group->window(3 * 8);
    std::optional<Plan> plan = group->plan(small_shape(3));
    const SmallInput input(rank, 3, 4);
    Received received = plan->dispatch(input.dispatch());
    group.reset();
    expect_round_trip(*plan, rank, 3, 5);
    plan.reset();
    expect_rows(received, 3, 4);
    for (int peer = 0; peer < 3; ++peer) window.signal(peer, 8 * static_cast<std::size_t>(rank), 6);
    for (std::size_t peer = 0; peer < 3; ++peer) EXPECT_EQ(window.wait(8 * peer, Compare::kNotEqual, 0), 6);
    received.release();
    EXPECT_FALSE(received.live());
  });
}

TEST(group, a_rank_that_leaves_early_does_not_block_and_is_reported_as_having_left) {
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    std::optional<Group> group = Group::create(std::move(exchange), patient());
    std::optional<Plan> plan = group->plan(small_shape(3));
    expect_round_trip(*plan, rank, 3, 0);
    const Deadline watch(1h);
    if (rank == 1) {
      plan.reset();
      group.reset();
      EXPECT_LT(watch.elapsed(), 5s);
      return;
    }
    const SmallInput input(rank, 3, 1);
    const auto error = error_of([&] { plan->dispatch(input.dispatch()); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kPeerLost) << error->what();
    EXPECT_EQ(error->failure().culprit, 1) << error->what();
    EXPECT_EQ(error->failure().phase, Phase::kDispatchCounts) << error->what();
    const bool noticed_first =
        error->failure().reporter == rank && std::strstr(error->what(), "the group has failed") == nullptr;
    EXPECT_THAT(error->what(), testing::HasSubstr(noticed_first ? "which has left the group" : "peer lost of rank 1"));
    EXPECT_LT(watch.elapsed(), 15s) << "long before the deadline";
    ASSERT_TRUE(group->status().has_value());
    EXPECT_EQ(group->status()->culprit, 1);
    // Barriers go through the Exchange, which knows as well.
    const auto barrier_error = error_of([&] { group->barrier(); });
    ASSERT_TRUE(barrier_error.has_value());
    EXPECT_EQ(barrier_error->code(), ErrorCode::kPeerLost);
  });
}

TEST(group, a_barrier_that_one_rank_misses_is_a_failure_of_the_group) {
  std::atomic<int> num_told{0};
  run_thread_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient(100ms));
    if (rank == 1) {
      while (num_told < 2) std::this_thread::sleep_for(1ms);
    }
    const auto error = error_of([&] { group.barrier(); });
    ++num_told;
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
    EXPECT_EQ(error->failure().phase, Phase::kBarrier);
    EXPECT_EQ(error->failure().culprit, 1);
    ASSERT_TRUE(group.status().has_value());
    EXPECT_EQ(group.status()->phase, Phase::kBarrier);
    while (num_told < 3) std::this_thread::sleep_for(1ms);
  });
}

TEST(group, ranks_that_wait_in_the_exchange_are_told_the_cause_rather_than_who_gave_up_because_of_it) {
  std::atomic<int> num_told{0};
  run_thread_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), patient());
    std::optional<Plan> plan = group.plan(small_shape(3));
    const SmallInput input(rank, 3, 0);
    DispatchArgs args = input.dispatch();
    args.timeout = 50ms;
    // Rank 0 waits at the barrier, rank 1 gives up on rank 2 and leaves, rank 2 does nothing.
    std::optional<Error> error;
    if (rank == 0) error = error_of([&] { group.barrier(); });
    if (rank == 1) error = error_of([&] { plan->dispatch(args); });
    if (rank == 2) {
      while (num_told < 2) std::this_thread::sleep_for(1ms);
      error = error_of([&] { group.barrier(); });
    }
    ++num_told;
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
    EXPECT_EQ(error->failure().reporter, 1) << error->what();
    EXPECT_EQ(error->failure().phase, Phase::kDispatchCounts) << error->what();
  });
}

TEST(group, what_a_rank_did_before_it_left_is_not_lost) {
  for (int round = 0; round < 200; ++round) {
    run_thread_ranks(2, [&](std::shared_ptr<Exchange> exchange) {
      const int rank = exchange->rank();
      const Plan plan = Group::create(std::move(exchange), patient()).plan(small_shape(2));
      expect_round_trip(plan, rank, 2, round);
    });
  }
}

}  // namespace
}  // namespace tokenyard::test
