// Ranks as threads that share memory of GPUs.
#include <numeric>

#include "memory/device_region.hpp"
#include "memory/gpus.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/support/handles_apart.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/transport/channels.hpp"
#include "tests/transport/device_exercises.hpp"

namespace tokenyard::test {
namespace {

// How threads pass each other memory: as it is, or as processes do.
struct Passing {
  ChannelKind channel;
  HandleKind handle;
};

// Rank i is on GPU i % num_gpus.
void run_on_gpus(int num_ranks, int num_gpus, const Passing& passing, const std::function<void(Peers&)>& body) {
  auto channels = make_channels(passing.channel, num_ranks);
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    MemoryPlace place{
        .device = rank % num_gpus, .users = std::vector<int>(std::min(num_gpus, num_ranks)), .handle = passing.handle};
    std::iota(place.users.begin(), place.users.end(), 0);
    Peers peers(num_ranks, std::move(channels[rank]), WaitStyle::kYield, std::chrono::seconds(30), {}, place);
    body(peers);
    meet(peers, 1000);
  });
}

class device_memory_of_threads : public testing::TestWithParam<Passing> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GPUS(1);
    if (GetParam().handle != HandleKind::kNone) SKIP_WITHOUT_HANDLES(GetParam().handle);
  }
};

TEST_P(device_memory_of_threads, all_ranks_write_to_all_on_one_gpu) { run_on_gpus(8, 1, GetParam(), exercise_device_memory); }

TEST_P(device_memory_of_threads, all_ranks_write_to_all_on_two_gpus) {
  SKIP_WITHOUT_GPUS(2);
  if (const PeerAccess access = peer_access(0, 1); !access.is_possible) GTEST_SKIP() << access.reason;
  run_on_gpus(4, 2, GetParam(), exercise_device_memory);
}

INSTANTIATE_TEST_SUITE_P(kinds, device_memory_of_threads,
                         testing::Values(Passing{ChannelKind::kThreads, HandleKind::kNone},
                                         Passing{ChannelKind::kSockets, HandleKind::kDescriptor},
                                         Passing{ChannelKind::kSockets, HandleKind::kFabric},
                                         Passing{ChannelKind::kSockets, HandleKind::kIpc}),
                         [](const auto& kind) {
                           const bool has_channel = kind.param.channel == ChannelKind::kThreads;
                           return has_channel ? std::string("threads") : std::string("sockets_") + to_string(kind.param.handle);
                         });

TEST(failure_words_of_threads, kernels_tell_the_hosts_of_their_peers) {
  SKIP_WITHOUT_GPUS(1);
  auto channels = make_channels(ChannelKind::kThreads, 3);
  run_thread_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    Peers peers(3, std::move(channels[rank]), WaitStyle::kYield, std::chrono::seconds(30), {}, {.device = 0, .users = {0}});
    exercise_failure_words(peers);
  });
}

TEST(failure_words_of_threads, ranks_in_host_memory_have_none) {
  auto channels = make_channels(ChannelKind::kThreads, 1);
  const Peers peers(1, std::move(channels[0]), WaitStyle::kYield, std::chrono::seconds(1));
  EXPECT_FALSE(peers.device_place().on_device());
  EXPECT_TRUE(peers.device_failure_words().empty());
}

TEST(host_memory_on_gpus, is_registered_once_and_let_go_with_its_region) {
  SKIP_WITHOUT_GPUS(1);
  for (int round = 0; round < 3; ++round) {
    const auto region = MemoryRegion::anonymous(4096);
    std::vector<std::byte*> addresses(8);
    run_thread_ranks(8, [&](std::shared_ptr<Exchange> exchange) { addresses[exchange->rank()] = region->device_data(0); });
    for (const std::byte* address : addresses) EXPECT_EQ(address, addresses[0]);
    store_word_by_kernel(reinterpret_cast<std::uint64_t*>(addresses[0]), 77);
    EXPECT_EQ(*reinterpret_cast<const std::uint64_t*>(region->data()), 77);
  }
}

TEST(device_memory_of_threads, a_peer_with_host_memory_is_a_disagreement) {
  SKIP_WITHOUT_GPUS(1);
  auto channels = make_channels(ChannelKind::kThreads, 2);
  const MemoryPlace place{.device = 0, .users = {0}};
  channels[0]->publish(7, channels[0]->allocate(64), Deadline(std::chrono::seconds(1)));
  expect_error([&] { channels[1]->try_collect(0, 7, 64, place); }, ErrorCode::kDisagreement, "rank 0 passed host memory");
}

}  // namespace
}  // namespace tokenyard::test
