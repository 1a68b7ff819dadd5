// Windows of groups on GPUs whose ranks are processes. This process itself leaves CUDA alone, since it forks.
#include <signal.h>
#include <unistd.h>

#include "tests/base/expect_error.hpp"
#include "tests/group/gpu_window_exercises.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

using namespace std::chrono_literals;

// By the number of GPUs that two processes share. On one they take turns, some milliseconds each.
class gpu_window_of_processes : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS_APART(GetParam()); }
  static void run(const std::function<void(const GpuRank&)>& body) {
    const auto results = run_process_ranks(2, [&](std::shared_ptr<Exchange> exchange) {
      const GpuRank self(std::move(exchange), GetParam());
      body(self);
    });
    for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0) << "signal " << result.signal;
  }
};

TEST_P(gpu_window_of_processes, carries_bytes_signals_and_sums_of_the_host) { run(exercise_verbs_of_the_host); }

TEST_P(gpu_window_of_processes, carries_bytes_and_signals_in_streams) {
  run([](const GpuRank& self) { exercise_verbs_in_streams(self, 20); });
}

TEST_P(gpu_window_of_processes, carries_what_threads_warps_and_blocks_put) {
  run([](const GpuRank& self) {
    for (const TeamKind kind : {TeamKind::kThread, TeamKind::kWarp, TeamKind::kBlock}) {
      for (const std::size_t part_bytes : {16, 777, 65536}) exercise_kernels(self, kind, part_bytes);
    }
  });
}

TEST_P(gpu_window_of_processes, counts_every_addition_of_a_kernel) { run(exercise_additions_of_kernels); }

TEST_P(gpu_window_of_processes, a_kernel_that_waits_for_a_killed_rank_ends_and_the_gpu_stays_usable) {
  const TestListener listener = listen_on_loopback();
  RankProcesses processes(2, [&](int rank) {
    if (rank != 0) close(listener.fd);
    const GpuRank self(make_tcp_exchange(rendezvous_at(listener, rank, 2)), GetParam(), 2s);
    const Window window = self.group().window(64);
    const DeviceArray<int> num_told(1);
    self.group().barrier();
    if (rank == 1) kill(getpid(), SIGKILL);
    wait_in_block(window.device_window(), 0, 200'000'000, num_told.data(), self.stream());
    self.finish();
    EXPECT_EQ(num_told.contents()[0], 0);
    ASSERT_TRUE(self.group().status().has_value());
    EXPECT_EQ(self.group().status()->phase, Phase::kWindowWait);
    window.signal(1, 0, 3);  // its memory is still mapped
    const GpuRank alone(make_thread_exchange(1)[0], 1);
    exercise_kernels(alone, TeamKind::kBlock, 4096);
  });
  close(listener.fd);
  const auto results = processes.wait();
  EXPECT_EQ(results[0].exit_code, 0) << "signal " << results[0].signal;
  EXPECT_EQ(results[1].signal, SIGKILL);
}

INSTANTIATE_TEST_SUITE_P(on_gpus, gpu_window_of_processes, testing::Values(1, 2), testing::PrintToStringParamName());

}  // namespace
}  // namespace tokenyard::test
