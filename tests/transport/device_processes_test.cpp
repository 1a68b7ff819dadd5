// Ranks as processes that share memory of GPUs. This process itself leaves CUDA alone, since it forks.
#include <signal.h>
#include <unistd.h>

#include "tests/base/expect_error.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/transport/channels.hpp"
#include "tests/transport/device_exercises.hpp"

namespace tokenyard::test {
namespace {

// Rank i is on GPU i % num_gpus.
std::vector<ProcessResult> run_on_gpus(int num_ranks, int num_gpus, const std::function<void(Peers&)>& body) {
  auto channels = make_channels(ChannelKind::kSockets, num_ranks);
  RankProcesses processes(num_ranks, [&](int rank) {
    auto channel = std::move(channels[rank]);
    channels.clear();
    const int device = rank % num_gpus;
    Peers peers(num_ranks, std::move(channel), WaitStyle::kYield, std::chrono::seconds(30), {},
                {.device = device, .users = {device}});
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

TEST(device_memory_of_processes, all_ranks_write_to_all_on_one_gpu) {
  SKIP_WITHOUT_GPUS_APART(1);
  expect_success(run_on_gpus(4, 1, exercise_device_memory));
}

TEST(device_memory_of_processes, all_ranks_write_to_all_on_two_gpus) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_on_gpus(2, 2, exercise_device_memory));
}

TEST(device_memory_of_processes, kernels_tell_the_hosts_of_their_peers_of_a_failure) {
  SKIP_WITHOUT_GPUS_APART(1);
  expect_success(run_on_gpus(3, 1, [](Peers& peers) { exercise_failure_words(peers); }));
}

TEST(device_memory_of_processes, of_a_killed_rank_stays_readable_and_the_peers_gpu_usable) {
  SKIP_WITHOUT_GPUS_APART(1);
  const auto results = run_on_gpus(2, 1, [](Peers& peers) {
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
