// Ranks as processes that share memory of GPUs. This process itself leaves CUDA alone, since it forks.
#include <signal.h>
#include <unistd.h>

#include "tests/base/expect_error.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/handles_apart.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/transport/channels.hpp"
#include "tests/transport/device_exercises.hpp"

namespace tokenyard::test {
namespace {

// Rank i is on GPU i % num_gpus.
std::vector<ProcessResult> run_on_gpus(int num_ranks, int num_gpus, HandleKind handle,
                                       const std::function<void(Peers&)>& body) {
  auto channels = make_channels(ChannelKind::kSockets, num_ranks);
  RankProcesses processes(num_ranks, [&](int rank) {
    auto channel = std::move(channels[rank]);
    channels.clear();
    const int device = rank % num_gpus;
    Peers peers(num_ranks, std::move(channel), WaitStyle::kYield, std::chrono::seconds(30), {},
                {.device = device, .users = {device}, .handle = handle});
    body(peers);
  });
  channels.clear();
  return processes.wait();
}

void expect_success(const std::vector<ProcessResult>& results) {
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

class device_memory_of_processes : public testing::TestWithParam<HandleKind> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GPUS_APART(1);
    SKIP_WITHOUT_HANDLES_APART(GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(kinds, device_memory_of_processes,
                         testing::Values(HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST_P(device_memory_of_processes, all_ranks_write_to_all_on_one_gpu) {
  expect_success(run_on_gpus(4, 1, GetParam(), exercise_device_memory));
}

TEST_P(device_memory_of_processes, all_ranks_write_to_all_on_two_gpus) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_on_gpus(2, 2, GetParam(), exercise_device_memory));
}

// Rank 0 lets go of its region and takes other memory, while rank 1 still reads the region.
TEST_P(device_memory_of_processes, that_its_owner_has_let_go_of_stays_for_the_others_and_is_freed_behind_them) {
  constexpr std::size_t kNumBytes = std::size_t{256} << 20;
  expect_success(run_on_gpus(2, 1, GetParam(), [](Peers& peers) {
    check_cuda(cudaSetDevice(0), "cudaSetDevice");
    const auto take = [&](std::uint64_t tag) { return peers.share(tag, 1, Deadline(peers.timeout()), peers.device_place()); };
    const auto free_memory = [] {
      std::size_t free = 0;
      std::size_t total = 0;
      check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      return free;
    };
    take(4);
    auto regions = peers.share(5, kNumBytes, Deadline(peers.timeout()), peers.device_place());
    if (peers.rank() == 0) {
      check_cuda(cudaMemset(regions[0]->data(), 0x5a, kNumBytes), "cudaMemset");
      check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      regions.clear();
    }
    meet(peers, 6);
    const auto others = peers.share(7, kNumBytes, Deadline(peers.timeout()), peers.device_place());
    check_cuda(cudaMemset(others[peers.rank()]->data(), 0x11, kNumBytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    meet(peers, 8);
    if (peers.rank() == 1) {
      std::vector<std::uint8_t> contents(kNumBytes);
      check_cuda(cudaMemcpy(contents.data(), regions[0]->data(), kNumBytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
      EXPECT_EQ(contents, std::vector<std::uint8_t>(kNumBytes, 0x5a));
    }
    const std::size_t free_before = free_memory();
    meet(peers, 9);
    regions.clear();
    meet(peers, 10);
    take(11);  // frees what the others have let go of
    meet(peers, 12);
    EXPECT_GT(free_memory(), free_before + kNumBytes / 2);
    meet(peers, 13);
  }));
}

class killed_rank_of_processes : public device_memory_of_processes {};
// CUDA IPC promises nothing of the memory of a process that has ended.
INSTANTIATE_TEST_SUITE_P(kinds, killed_rank_of_processes, testing::Values(HandleKind::kDescriptor, HandleKind::kFabric),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST(failure_words_of_processes, kernels_tell_the_hosts_of_their_peers) {
  SKIP_WITHOUT_GPUS_APART(1);
  expect_success(run_on_gpus(3, 1, HandleKind::kNone, [](Peers& peers) { exercise_failure_words(peers); }));
}

TEST_P(killed_rank_of_processes, leaves_memory_readable_and_the_peers_gpu_usable) {
  const auto results = run_on_gpus(2, 1, GetParam(), [](Peers& peers) {
    check_cuda(cudaSetDevice(0), "cudaSetDevice");
    const auto regions = peers.share(5, 4096, Deadline(peers.timeout()), peers.device_place());
    if (peers.rank() == 1) {
      check_cuda(cudaMemset(regions[1]->data(), 0x5a, 4096), "cudaMemset");
      check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }
    meet(peers, 6);
    if (peers.rank() == 1) kill(getpid(), SIGKILL);
    expect_error(
        [&] {
          peers.wait(
              1, Phase::kDispatchRows, Deadline(peers.timeout()), [] { return false; }, [] { return std::string("rows"); });
        },
        ErrorCode::kPeerLost, "which has died");
    std::vector<std::uint8_t> contents(4096);
    check_cuda(cudaMemcpy(contents.data(), regions[1]->data(), contents.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    EXPECT_EQ(contents, std::vector<std::uint8_t>(4096, 0x5a));
    store_word_by_kernel(reinterpret_cast<std::uint64_t*>(regions[1]->data()), 3);
    DeviceArray<int> fresh(std::vector<int>{1, 2, 3});
    EXPECT_EQ(fresh.contents(), std::vector<int>({1, 2, 3}));
  });
  EXPECT_EQ(results[0].exit_code, 0) << "signal " << results[0].signal;
  EXPECT_EQ(results[1].signal, SIGKILL);
}

}  // namespace
}  // namespace tokenyard::test
