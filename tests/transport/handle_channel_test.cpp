// What every kind of HandleChannel promises, asked of each.
#include "transport/handle_channel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "memory/lease.hpp"
#include "memory/memory_handle.hpp"
#include "memory/unix_socket.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/support/process_state.hpp"
#include "tests/transport/channels.hpp"

namespace tokenyard::test {
namespace {

class handle_channel : public testing::TestWithParam<ChannelKind> {
 protected:
  std::vector<std::unique_ptr<HandleChannel>> make(int num_ranks) { return make_channels(GetParam(), num_ranks); }
};

const Deadline kSoon{std::chrono::minutes(2)};

std::shared_ptr<MemoryRegion> region_with(HandleChannel& channel, std::size_t num_bytes, int mark) {
  auto region = channel.allocate(num_bytes);
  region->data()[0] = static_cast<std::byte>(mark);
  return region;
}

int mark_of(const std::shared_ptr<MemoryRegion>& region) {
  return region == nullptr ? -1 : static_cast<int>(region->data()[0]);
}

TEST_P(handle_channel, knows_its_rank_and_members) {
  const auto channels = make(3);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(channels[rank]->rank(), rank);
    EXPECT_EQ(channels[rank]->members(), std::vector<int>({0, 1, 2}));
  }
}

TEST_P(handle_channel, a_published_region_reaches_every_other_member_and_is_shared) {
  const auto channels = make(3);
  const auto region = region_with(*channels[1], 4096, 5);
  channels[1]->publish(7, region, kSoon);
  const auto at_0 = channels[0]->try_collect(1, 7, 4096);
  const auto at_2 = channels[2]->try_collect(1, 7, 4096);
  ASSERT_EQ(mark_of(at_0), 5);
  ASSERT_EQ(mark_of(at_2), 5);
  at_2->data()[1] = std::byte{6};
  EXPECT_EQ(region->data()[1], std::byte{6});
  EXPECT_EQ(at_0->data()[1], std::byte{6});
}

TEST_P(handle_channel, nothing_comes_before_it_was_published_or_a_second_time) {
  const auto channels = make(2);
  EXPECT_EQ(channels[0]->try_collect(1, 7, 8), nullptr);
  channels[1]->publish(7, region_with(*channels[1], 8, 1), kSoon);
  EXPECT_EQ(channels[0]->try_collect(1, 8, 8), nullptr) << "another tag";
  EXPECT_EQ(mark_of(channels[0]->try_collect(1, 7, 8)), 1);
  EXPECT_EQ(channels[0]->try_collect(1, 7, 8), nullptr);
}

TEST_P(handle_channel, tags_may_be_collected_in_any_order) {
  const auto channels = make(2);
  for (int tag = 0; tag < 20; ++tag) channels[1]->publish(100 + tag, region_with(*channels[1], 64, tag), kSoon);
  for (int i = 0; i < 20; ++i) {
    const int tag = (i * 7 + 13) % 20;
    EXPECT_EQ(mark_of(channels[0]->try_collect(1, 100 + tag, 64)), tag);
  }
}

TEST_P(handle_channel, equal_tags_of_different_members_are_apart) {
  const auto channels = make(3);
  channels[0]->publish(7, region_with(*channels[0], 8, 10), kSoon);
  channels[1]->publish(7, region_with(*channels[1], 8, 11), kSoon);
  EXPECT_EQ(mark_of(channels[2]->try_collect(1, 7, 8)), 11);
  EXPECT_EQ(mark_of(channels[2]->try_collect(0, 7, 8)), 10);
  EXPECT_EQ(mark_of(channels[1]->try_collect(0, 7, 8)), 10);
}

TEST_P(handle_channel, two_threads_of_a_rank_collect_different_tags_at_once) {
  constexpr int kNumRegions = 100;
  const auto channels = make(2);
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    for (int lane = 0; lane < 2; ++lane) {
      threads.emplace_back([&, rank, lane] {
        const int peer = 1 - rank;
        for (int i = 0; i < kNumRegions; ++i) {
          const auto tag = static_cast<std::uint64_t>(i) * 2 + static_cast<std::uint64_t>(lane);
          channels[rank]->publish(tag, region_with(*channels[rank], 64, (i + lane + rank) % 200), kSoon);
          std::shared_ptr<MemoryRegion> arrived;
          while (arrived == nullptr && !kSoon.passed()) {
            arrived = channels[rank]->try_collect(peer, tag, 64);
            std::this_thread::yield();
          }
          num_wrong += mark_of(arrived) == (i + lane + peer) % 200 ? 0 : 1;
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
}

TEST_P(handle_channel, all_ranks_publishing_much_at_once_make_room_for_each_other) {
  constexpr std::uint64_t kNumRegions = 400;
  const auto channels = make(2);
  std::vector<std::thread> threads;
  std::atomic<int> num_missing{0};
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto region = region_with(*channels[rank], 64, rank);
      for (std::uint64_t tag = 0; tag < kNumRegions; ++tag) channels[rank]->publish(tag, region, kSoon);
      for (std::uint64_t tag = 0; tag < kNumRegions; ++tag) {
        std::shared_ptr<MemoryRegion> arrived;
        while (arrived == nullptr && !kSoon.passed()) arrived = channels[rank]->try_collect(1 - rank, tag, 64);
        num_missing += arrived == nullptr ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_missing, 0);
}

TEST_P(handle_channel, a_region_of_another_size_is_a_disagreement_that_names_rank_and_sizes) {
  const auto channels = make(2);
  channels[1]->publish(7, region_with(*channels[1], 64, 1), kSoon);
  expect_error([&] { channels[0]->try_collect(1, 7, 128); }, ErrorCode::kDisagreement,
               "rank 1 passed 64 bytes of memory where 128 were expected");
}

TEST_P(handle_channel, a_member_that_lets_go_is_gone_but_what_it_published_is_there) {
  auto channels = make(3);
  channels[1]->publish(7, region_with(*channels[1], 64, 3), kSoon);
  EXPECT_FALSE(channels[0]->is_gone(1));
  channels[1].reset();
  EXPECT_TRUE(channels[0]->is_gone(1));
  EXPECT_TRUE(channels[2]->is_gone(1));
  EXPECT_FALSE(channels[0]->is_gone(2));
  EXPECT_FALSE(channels[0]->is_gone(0));
  EXPECT_EQ(mark_of(channels[0]->try_collect(1, 7, 64)), 3);
  EXPECT_EQ(mark_of(channels[2]->try_collect(1, 7, 64)), 3);
  EXPECT_EQ(channels[0]->try_collect(1, 8, 64), nullptr);
}

TEST_P(handle_channel, publishing_to_a_member_that_is_gone_reaches_the_others) {
  auto channels = make(3);
  channels[1].reset();
  channels[0]->publish(7, region_with(*channels[0], 64, 4), kSoon);
  EXPECT_EQ(mark_of(channels[2]->try_collect(0, 7, 64)), 4);
}

TEST_P(handle_channel, leaves_no_descriptor_behind_even_with_regions_that_nobody_collected) {
  const int num_descriptors = count_descriptors();
  {
    const auto channels = make(3);
    for (std::uint64_t tag = 0; tag < 10; ++tag) channels[0]->publish(tag, region_with(*channels[0], 64, 1), kSoon);
    EXPECT_EQ(mark_of(channels[2]->try_collect(0, 9, 64)), 1);
  }
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

INSTANTIATE_TEST_SUITE_P(kinds, handle_channel, testing::Values(ChannelKind::kThreads, ChannelKind::kSockets),
                         [](const auto& kind) { return kind.param == ChannelKind::kThreads ? "threads" : "sockets"; });

TEST(thread_channel, groups_of_one_process_are_apart) {
  const auto first = make_channels(ChannelKind::kThreads, 2);
  const auto second = make_channels(ChannelKind::kThreads, 2);
  first[0]->publish(7, region_with(*first[0], 8, 1), kSoon);
  EXPECT_EQ(second[1]->try_collect(0, 7, 8), nullptr);
  EXPECT_EQ(mark_of(first[1]->try_collect(0, 7, 8)), 1);
}

TEST(socket_channel, somebody_who_never_receives_ends_a_publish_at_its_deadline) {
  const auto channels = make_channels(ChannelKind::kSockets, 2);
  const auto region = region_with(*channels[0], 8, 1);
  const auto publish_forever = [&] {
    for (std::uint64_t tag = 0;; ++tag) channels[0]->publish(tag, region, Deadline(std::chrono::milliseconds(50)));
  };
  expect_error(publish_forever, ErrorCode::kTimeout, "rank 0: rank 1 did not take this rank's memory within 50 ms");
}

// A channel of rank 0 whose peer is written by hand.
struct LonelyChannel {
  LonelyChannel() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      throw std::runtime_error("socketpair");
    std::vector<FileDescriptor> sockets(2);
    sockets[1] = FileDescriptor(ends[0]);
    peer = FileDescriptor(ends[1]);
    channel = make_socket_channel(0, {0, 1}, std::move(sockets));
  }
  void send(const HandleMessage& message, int fd) const {
    ASSERT_EQ(send_handle(peer.get(), message, fd), SocketResult::kDone);
  }

  FileDescriptor peer;
  std::unique_ptr<HandleChannel> channel;
};

TEST(socket_channel, a_handle_of_device_memory_where_host_memory_was_expected_is_a_disagreement) {
  const LonelyChannel ranks;
  Lease lease;
  for (const HandleKind kind : {HandleKind::kFabric, HandleKind::kIpc}) {
    FileDescriptor end = lease.hand_out();
    const HandleMessage message{.tag = 7, .num_bytes = 64, .kind = static_cast<std::uint64_t>(kind)};
    ranks.send(message, end.get());
    end = FileDescriptor();
    EXPECT_TRUE(lease.is_held()) << "by the message under way";
    expect_error([&] { ranks.channel->try_collect(1, 7, 64); }, ErrorCode::kDisagreement,
                 "rank 1 passed device memory where host memory was expected");
    EXPECT_FALSE(lease.is_held());
  }
}

TEST(socket_channel, a_handle_without_its_descriptor_or_of_an_unknown_kind_is_a_disagreement) {
  const LonelyChannel ranks;
  ranks.send({.tag = 7, .num_bytes = 64, .kind = static_cast<std::uint64_t>(HandleKind::kDescriptor)}, -1);
  expect_error([&] { ranks.channel->try_collect(1, 7, 64); }, ErrorCode::kDisagreement, "no descriptor came with it");
  const auto region = MemoryRegion::shareable(64);
  ranks.send({.tag = 8, .num_bytes = 64, .kind = 77}, region->fd());
  expect_error([&] { ranks.channel->try_collect(1, 8, 64); }, ErrorCode::kDisagreement, "a handle of kind 77");
}

TEST(socket_channel, leases_of_what_nobody_collected_end_with_the_channel) {
  Lease lease;
  {
    const LonelyChannel ranks;
    const FileDescriptor end = lease.hand_out();
    ranks.send({.tag = 7, .num_bytes = 64, .kind = static_cast<std::uint64_t>(HandleKind::kIpc)}, end.get());
    EXPECT_EQ(ranks.channel->try_collect(1, 9, 64), nullptr);  // takes in what has come
  }
  EXPECT_FALSE(lease.is_held());
}

}  // namespace
}  // namespace tokenyard::test
