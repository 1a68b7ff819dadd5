#include "transport/peers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/transport/channels.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Runs body(peers) on a thread per rank; what each rank threw.
template <class Body>
std::vector<std::optional<Error>> errors_of_peers(int num_ranks, Body body, ChannelKind kind = ChannelKind::kThreads) {
  auto channels = make_channels(kind, num_ranks);
  return errors_of_ranks(num_ranks, [&](int rank) {
    Peers peers(num_ranks, std::move(channels[rank]), WaitStyle::kYield, kAmple);
    body(peers);
  });
}

// A wait for something that never comes.
void wait_in_vain(Peers& peers, int peer, Phase phase, std::chrono::milliseconds timeout) {
  peers.wait(peer, phase, Deadline(timeout), [] { return false; }, [] { return std::string("nothing"); });
}

// Holds a silent rank back until the others are done.
class Gate {
 public:
  explicit Gate(int num_others) : num_left_(num_others) {}
  void leave() { --num_left_; }
  void await() const {
    while (num_left_ > 0) std::this_thread::sleep_for(1ms);
  }

 private:
  std::atomic<int> num_left_;
};

void expect_failure(const std::optional<Error>& error, ErrorCode code, Phase phase, int culprit) {
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), code) << error->what();
  EXPECT_EQ(error->failure().code, code) << error->what();
  EXPECT_EQ(error->failure().phase, phase) << error->what();
  EXPECT_EQ(error->failure().culprit, culprit) << error->what();
}

class peers_over : public testing::TestWithParam<ChannelKind> {};

TEST_P(peers_over, share_gives_everybody_everybodys_region) {
  const auto errors = errors_of_peers(
      4,
      [](Peers& peers) {
        for (std::uint64_t tag = 1; tag <= 3; ++tag) {
          const auto regions = peers.share(tag, 256, Deadline(kAmple));
          for (int peer = 0; peer < 4; ++peer) {
            ASSERT_EQ(regions[peer]->num_bytes(), 256);
            std::atomic_ref(*reinterpret_cast<std::uint64_t*>(regions[peer]->data() + 8 * peers.rank())).store(tag * 10);
          }
          for (int peer = 0; peer < 4; ++peer) {
            const std::atomic_ref word(*reinterpret_cast<std::uint64_t*>(regions[peers.rank()]->data() + 8 * peer));
            const auto arrived = [&] { return word.load() == tag * 10; };
            peers.wait(peer, Phase::kBarrier, Deadline(kAmple), arrived, [] { return std::string(); });
          }
        }
      },
      GetParam());
  for (const auto& error : errors) EXPECT_FALSE(error.has_value()) << error->what();
}

INSTANTIATE_TEST_SUITE_P(kinds, peers_over, testing::Values(ChannelKind::kThreads, ChannelKind::kSockets),
                         [](const auto& kind) { return kind.param == ChannelKind::kThreads ? "threads" : "sockets"; });

TEST(peers, what_is_ready_needs_no_deadline) {
  const auto errors = errors_of_peers(2, [](Peers& peers) {
    peers.wait(1 - peers.rank(), Phase::kBarrier, Deadline(0ms), [] { return true; }, [] { return std::string(); });
  });
  for (const auto& error : errors) EXPECT_FALSE(error.has_value());
}

TEST(peers, a_silent_rank_is_the_culprit_of_all_who_wait_for_it) {
  Gate gate(2);
  const auto errors = errors_of_peers(3, [&](Peers& peers) {
    if (peers.rank() == 1) return gate.await();
    const auto error = error_of([&] { wait_in_vain(peers, 1, Phase::kDispatchRows, 50ms); });
    gate.leave();
    throw *error;
  });
  for (const int rank : {0, 2}) expect_failure(errors[rank], ErrorCode::kTimeout, Phase::kDispatchRows, 1);
  const int first = errors[0]->failure().reporter;
  EXPECT_THAT(errors[first]->what(), AllOf(HasSubstr("rank " + std::to_string(first) + " waited"),
                                           HasSubstr("ms for rank 1 in dispatch/rows: nothing; rank 1 waits for nobody")));
}

TEST(peers, the_last_of_a_chain_of_waits_is_the_culprit_of_all) {
  constexpr std::array<std::chrono::milliseconds, 3> kCases[] = {
      {50ms, 20s, 20s}, {20s, 50ms, 20s}, {20s, 20s, 50ms}, {60ms, 60ms, 60ms}};
  for (const auto& timeouts : kCases) {
    Gate gate(3);
    const Deadline watch(1h);
    const auto errors = errors_of_peers(4, [&](Peers& peers) {
      if (peers.rank() == 3) return gate.await();
      const auto error = error_of(
          [&] { wait_in_vain(peers, peers.rank() + 1, static_cast<Phase>(peers.rank() + 3), timeouts[peers.rank()]); });
      gate.leave();
      throw *error;
    });
    EXPECT_LT(watch.elapsed(), 10s) << "the shortest deadline ends all waits";
    for (int rank = 0; rank < 3; ++rank) {
      ASSERT_TRUE(errors[rank].has_value());
      EXPECT_EQ(errors[rank]->code(), ErrorCode::kTimeout) << errors[rank]->what();
      EXPECT_EQ(errors[rank]->failure().culprit, 3) << errors[rank]->what();
    }
    if (errors[0]->failure().reporter == 0) {
      EXPECT_THAT(errors[0]->what(),
                  HasSubstr("; rank 1 itself waits for rank 2 in dispatch/counts; rank 2 itself waits for rank "
                            "3 in dispatch/rows; rank 3 waits for nobody"));
    }
  }
}

TEST(peers, ranks_that_wait_for_each_other_disagree) {
  const auto errors = errors_of_peers(2, [](Peers& peers) {
    const bool first = peers.rank() == 0;
    wait_in_vain(peers, first ? 1 : 0, first ? Phase::kDispatchCounts : Phase::kCombineRows, first ? 50ms : 20'000ms);
  });
  expect_failure(errors[0], ErrorCode::kDisagreement, Phase::kDispatchCounts, 1);
  EXPECT_THAT(errors[0]->what(), AllOf(HasSubstr("rank 1 itself waits for rank 0 in combine/rows"),
                                       HasSubstr("they wait for each other, because their calls came in different orders")));
  expect_failure(errors[1], ErrorCode::kDisagreement, Phase::kDispatchCounts, 1);
  EXPECT_THAT(errors[1]->what(), HasSubstr("rank 0 reported disagreement of rank 1 in dispatch/counts"));
}

TEST(peers, a_circle_further_down_the_chain_is_a_disagreement_too) {
  const auto errors = errors_of_peers(4, [](Peers& peers) {
    const int next[] = {1, 2, 3, 1};
    wait_in_vain(peers, next[peers.rank()], Phase::kCombineFree, peers.rank() == 0 ? 50ms : 20'000ms);
  });
  for (const auto& error : errors) expect_failure(error, ErrorCode::kDisagreement, Phase::kCombineFree, 1);
}

TEST(peers, a_rank_that_stopped_in_the_middle_of_a_wait_is_the_culprit) {
  Gate gate(2);
  std::atomic<bool> frozen{false};
  const auto errors = errors_of_peers(3, [&](Peers& peers) {
    const auto error = error_of([&] {
      if (peers.rank() != 2) {
        while (!frozen) std::this_thread::sleep_for(1ms);
        return wait_in_vain(peers, peers.rank() == 0 ? 1 : 2, Phase::kCombineRows, 100ms);
      }
      // Announces its wait for rank 0, and then nothing moves any more.
      int num_looks = 0;
      const auto freeze = [&] {
        if (++num_looks < 10'000) return false;
        frozen = true;
        gate.await();
        return false;
      };
      peers.wait(0, Phase::kDispatchRows, Deadline(kAmple), freeze, [] { return std::string(); });
    });
    gate.leave();
    throw *error;
  });
  for (const auto& error : errors) expect_failure(error, ErrorCode::kTimeout, Phase::kCombineRows, 2);
  const int reporter = errors[0]->failure().reporter;
  EXPECT_THAT(errors[reporter]->what(),
              HasSubstr("rank 2 was waiting for rank 0 in dispatch/rows, and has been stopped there"));
}

TEST(peers, what_comes_while_the_culprit_is_looked_for_is_not_too_late) {
  std::atomic<bool> frozen{false}, posted{false};
  const auto errors = errors_of_peers(2, [&](Peers& peers) {
    if (peers.rank() == 1) {
      // Announces a wait and freezes, so that rank 0 watches it for a while.
      int num_looks = 0;
      const auto post_late = [&] {
        if (++num_looks < 10'000) return false;
        frozen = true;
        std::this_thread::sleep_for(200ms);
        posted = true;
        return true;
      };
      peers.wait(0, Phase::kBarrier, Deadline(kAmple), post_late, [] { return std::string(); });
    } else {
      while (!frozen) std::this_thread::sleep_for(1ms);
      peers.wait(1, Phase::kBarrier, Deadline(40ms), [&] { return posted.load(); }, [] { return std::string(); });
    }
  });
  for (const auto& error : errors) EXPECT_FALSE(error.has_value()) << error->what();
}

TEST(peers, a_failure_reaches_waits_for_others_and_stays_until_it_is_forgotten) {
  std::atomic<int> num_told{0};
  const auto errors = errors_of_peers(3, [&](Peers& peers) {
    const Failure failure{ErrorCode::kTimeout, Phase::kCombineRead, 2, 0};
    if (peers.rank() == 0) {
      EXPECT_THROW(peers.raise(failure, "told by the test"), Error);
    } else if (peers.rank() == 1) {
      EXPECT_THROW(wait_in_vain(peers, 2, Phase::kBarrier, kAmple), Error);
    }
    while (!peers.failure().has_value()) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(peers.failure()->code, ErrorCode::kTimeout);
    EXPECT_EQ(peers.failure()->phase, Phase::kCombineRead);
    EXPECT_EQ(peers.failure()->culprit, 2);
    EXPECT_EQ(peers.failure()->reporter, 0);
    // A second failure does not replace the first, not even for the one who reports it.
    const auto second = error_of([&] { peers.raise({ErrorCode::kPeerLost, Phase::kBarrier, 1, peers.rank()}, "later"); });
    ASSERT_TRUE(second.has_value());
    EXPECT_EQ(second->failure().culprit, 2);
    EXPECT_THROW(peers.check(), Error);
    EXPECT_THROW(wait_in_vain(peers, (peers.rank() + 1) % 3, Phase::kBarrier, 0ms), Error);

    const auto generation = peers.generation();
    ++num_told;
    while (num_told < 3) std::this_thread::sleep_for(1ms);
    peers.forget_failure();
    EXPECT_FALSE(peers.failure().has_value());
    EXPECT_EQ(peers.generation(), generation + 1);
    peers.check();
  });
  for (const auto& error : errors) EXPECT_FALSE(error.has_value()) << error->what();
}

TEST(peers, failures_of_every_kind_survive_packing) {
  for (const ErrorCode code : {ErrorCode::kInvalidArgument, ErrorCode::kDisagreement, ErrorCode::kSystem}) {
    for (const Phase phase : {Phase::kNone, Phase::kDispatchFree, Phase::kBarrier}) {
      for (const int culprit : {-1, 0, 1, 2047}) {
        const Failure failure = unpack_failure(pack({code, phase, culprit, 2046}));
        EXPECT_NE(pack(failure), 0);
        EXPECT_EQ(failure.code, code);
        EXPECT_EQ(failure.phase, phase);
        EXPECT_EQ(failure.culprit, culprit);
        EXPECT_EQ(failure.reporter, 2046);
      }
    }
  }
}

TEST(peers, a_rank_that_left_is_lost_to_those_who_wait_for_it_and_to_nobody_else) {
  for (const ChannelKind kind : {ChannelKind::kThreads, ChannelKind::kSockets}) {
    std::atomic<bool> told{false};
    const auto errors = errors_of_peers(
        3,
        [&](Peers& peers) {
          if (peers.rank() == 1) return;
          if (peers.rank() == 0) {
            const auto error = error_of([&] { wait_in_vain(peers, 2, Phase::kBarrier, 100ms); });
            ASSERT_TRUE(error.has_value());
            EXPECT_EQ(error->failure().culprit, 2) << error->what();
            peers.forget_failure();
            told = true;
            wait_in_vain(peers, 1, Phase::kCombineFree, kAmple);
          }
          while (!told) std::this_thread::sleep_for(1ms);
        },
        kind);
    expect_failure(errors[0], ErrorCode::kPeerLost, Phase::kCombineFree, 1);
    EXPECT_THAT(errors[0]->what(), HasSubstr("rank 1 in combine/free, which has left the group"));
  }
}

TEST(peers, an_error_in_the_middle_of_a_wait_ends_its_announcement) {
  std::atomic<bool> thrown{false};
  Gate gate(1);
  const auto errors = errors_of_peers(2, [&](Peers& peers) {
    if (peers.rank() == 1) {
      int num_looks = 0;
      const auto break_down = [&]() -> bool {
        if (++num_looks == 20'000) throw std::runtime_error("out of something");
        return false;
      };
      EXPECT_THROW(peers.wait(0, Phase::kMapping, Deadline(kAmple), break_down, [] { return std::string(); }),
                   std::runtime_error);
      thrown = true;
      return gate.await();
    }
    while (!thrown) std::this_thread::sleep_for(1ms);
    const auto error = error_of([&] { wait_in_vain(peers, 1, Phase::kMapping, 20ms); });
    gate.leave();
    throw *error;
  });
  expect_failure(errors[0], ErrorCode::kTimeout, Phase::kMapping, 1);
  EXPECT_THAT(errors[0]->what(), HasSubstr("rank 1 waits for nobody"));
}

// Asks the test whenever a peer's end is looked at, so that events can be put into the narrowest of moments.
class WatchedChannel final : public HandleChannel {
 public:
  WatchedChannel(std::unique_ptr<HandleChannel> inner, std::function<void()> before_look)
      : HandleChannel(inner->rank(), inner->members()), inner_(std::move(inner)), before_look_(std::move(before_look)) {}
  std::shared_ptr<MemoryRegion> allocate(std::size_t num_bytes, const MemoryPlace& place) override {
    return inner_->allocate(num_bytes, place);
  }
  void publish(std::uint64_t tag, const std::shared_ptr<MemoryRegion>& region, const Deadline& deadline) override {
    inner_->publish(tag, region, deadline);
  }
  std::shared_ptr<MemoryRegion> try_collect(int peer, std::uint64_t tag, std::size_t num_bytes,
                                            const MemoryPlace& place) override {
    return inner_->try_collect(peer, tag, num_bytes, place);
  }
  bool is_gone(int peer) const override {
    before_look_();
    return inner_->is_gone(peer);
  }

 private:
  std::unique_ptr<HandleChannel> inner_;
  std::function<void()> before_look_;
};

TEST(peers, a_region_published_by_a_rank_that_leaves_in_that_moment_is_not_lost) {
  auto channels = make_channels(ChannelKind::kThreads, 2);
  std::atomic<bool> looked{false}, done{false};
  const auto publish_and_leave = [&] {
    looked = true;
    while (!done) std::this_thread::sleep_for(1ms);
  };
  std::atomic<bool> armed{false};
  channels[0] = std::make_unique<WatchedChannel>(std::move(channels[0]), [&] {
    if (armed) publish_and_leave();
  });
  const auto errors = errors_of_ranks(2, [&](int rank) {
    std::optional<Peers> peers(std::in_place, 2, std::move(channels[rank]), WaitStyle::kYield, kAmple);
    if (rank == 0) {
      armed = true;
      EXPECT_NE(peers->share(9, 64, Deadline(kAmple))[1], nullptr);
      return;
    }
    while (!looked) std::this_thread::sleep_for(1ms);
    peers->share(9, 64, Deadline(kAmple));
    peers.reset();
    done = true;
  });
  for (const auto& error : errors) EXPECT_FALSE(error.has_value()) << error->what();
}

TEST(peers, a_rank_that_never_maps_the_control_pages_is_named) {
  auto channels = make_channels(ChannelKind::kThreads, 3);
  auto kept = std::move(channels[1]);
  const auto errors = errors_of_ranks(3, [&](int rank) {
    if (rank != 1) Peers(3, std::move(channels[rank]), WaitStyle::kYield, 60ms);
  });
  for (const int rank : {0, 2}) {
    expect_failure(errors[rank], ErrorCode::kTimeout, Phase::kMapping, 1);
    EXPECT_THAT(errors[rank]->what(), HasSubstr("rank 1 did not answer while memory was being mapped"));
  }
}

TEST(peers, a_rank_that_goes_before_it_mapped_the_control_pages_is_lost) {
  auto channels = make_channels(ChannelKind::kSockets, 3);
  channels[1].reset();
  const auto errors = errors_of_ranks(3, [&](int rank) {
    if (rank != 1) Peers(3, std::move(channels[rank]), WaitStyle::kYield, kAmple);
  });
  for (const int rank : {0, 2}) {
    ASSERT_TRUE(errors[rank].has_value());
    EXPECT_EQ(errors[rank]->code(), ErrorCode::kPeerLost);
    EXPECT_EQ(errors[rank]->failure().phase, Phase::kMapping);
  }
}

}  // namespace
}  // namespace tokenyard::test
