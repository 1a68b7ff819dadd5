// Windows of groups on GPUs whose ranks are threads.
#include "memory/gpus.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/group/gpu_window_exercises.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

using namespace std::chrono_literals;

// By the number of GPUs that the ranks share.
class gpu_window : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GPUS(GetParam());
    if (GetParam() < 2) return;
    if (const PeerAccess access = peer_access(0, 1); !access.is_possible) GTEST_SKIP() << access.reason;
  }
  static void run(int num_ranks, const std::function<void(const GpuRank&)>& body) {
    run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
      const GpuRank self(std::move(exchange), GetParam());
      body(self);
    });
  }
};

TEST_P(gpu_window, carries_bytes_signals_and_sums_of_the_host) { run(4, exercise_verbs_of_the_host); }

TEST_P(gpu_window, carries_bytes_and_signals_in_streams) {
  run(4, [](const GpuRank& self) { exercise_verbs_in_streams(self, 50); });
}

TEST_P(gpu_window, carries_what_threads_warps_and_blocks_put) {
  run(4, [](const GpuRank& self) {
    for (const TeamKind kind : {TeamKind::kThread, TeamKind::kWarp, TeamKind::kBlock}) {
      for (const std::size_t part_bytes : {1, 16, 777, 1000, 65536}) exercise_kernels(self, kind, part_bytes);
    }
  });
}

TEST_P(gpu_window, of_eight_ranks_carries_what_blocks_put) {
  run(8, [](const GpuRank& self) { exercise_kernels(self, TeamKind::kBlock, 1 << 20); });
}

TEST_P(gpu_window, counts_every_addition_of_a_kernel) { run(4, exercise_additions_of_kernels); }

TEST_P(gpu_window, verbs_in_streams_can_be_captured_and_replayed) {
  run(2, [](const GpuRank& self) {
    const Window window = self.group().window(64);
    const int peer = 1 - self.rank();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    check_cuda(cudaStreamBeginCapture(self.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    window.put(peer, 16, window.local() + 8, 8, self.stream());
    window.signal(peer, 0, 1, self.stream());
    window.wait(0, Compare::kEqual, 1, self.stream());
    check_cuda(cudaStreamEndCapture(self.stream(), &graph), "cudaStreamEndCapture");
    check_cuda(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
    for (std::uint64_t round = 1; round <= 20; ++round) {
      const std::uint64_t number = 10 * round + static_cast<std::uint64_t>(self.rank());
      window.put(self.rank(), 8, &number, 8);
      window.signal(self.rank(), 0, 0);
      self.group().barrier();
      check_cuda(cudaGraphLaunch(replay, self.stream()), "cudaGraphLaunch");
      self.finish();
      std::uint64_t seen = 0;
      window.get(self.rank(), 16, &seen, 8);
      EXPECT_EQ(seen, 10 * round + static_cast<std::uint64_t>(peer));
      self.group().barrier();
    }
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    EXPECT_FALSE(self.group().status().has_value());
  });
}

void expect_missed_deadline(const Group& group, int reporter) {
  ASSERT_TRUE(group.status().has_value());
  EXPECT_EQ(group.status()->code, ErrorCode::kTimeout);
  EXPECT_EQ(group.status()->phase, Phase::kWindowWait);
  EXPECT_EQ(group.status()->culprit, -1);
  EXPECT_EQ(group.status()->reporter, reporter);
  expect_error([&] { group.barrier(); }, ErrorCode::kTimeout, "the group has failed: rank 1 reported timeout in window/wait");
}

TEST_P(gpu_window, a_wait_in_a_stream_that_is_missed_fails_the_group_and_lets_the_stream_go_on) {
  run(3, [](const GpuRank& self) {
    const Window window = self.group().window(64);
    self.group().barrier();
    if (self.rank() == 1) {
      window.wait(0, Compare::kEqual, 1, self.stream(), 50ms);
      window.signal(1, 8, 5, self.stream());
      self.finish();
      EXPECT_EQ(window.load(8), 5);
    } else {
      expect_error([&] { window.wait(0, Compare::kEqual, 1); }, ErrorCode::kTimeout, "the group has failed");
    }
    expect_missed_deadline(self.group(), 1);
  });
}

TEST_P(gpu_window, a_wait_of_a_kernel_that_is_missed_says_so_to_all_its_threads_and_fails_the_group) {
  run(2, [](const GpuRank& self) {
    const Window window = self.group().window(64);
    const DeviceArray<int> num_told(1);
    self.group().barrier();
    // The other rank waits much longer, and ends early because it hears of it.
    wait_in_block(window.device_window(), 0, self.rank() == 1 ? 50'000'000 : 30'000'000'000, num_told.data(), self.stream());
    self.finish();
    EXPECT_EQ(num_told.contents()[0], 0);
    expect_missed_deadline(self.group(), 1);
  });
}

TEST_P(gpu_window, a_wait_of_a_kernel_that_is_met_says_so_to_all_its_threads) {
  run(2, [](const GpuRank& self) {
    const Window window = self.group().window(64);
    const DeviceArray<int> num_told(1);
    self.group().barrier();
    wait_in_block(window.device_window(), 0, 30'000'000'000, num_told.data(), self.stream());
    window.signal(1 - self.rank(), 0, 1);  // of the host, to a kernel that waits
    self.finish();
    EXPECT_EQ(num_told.contents()[0], 96);
    self.group().barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(on_gpus, gpu_window, testing::Values(1, 2), testing::PrintToStringParamName());

TEST(gpu_window_arguments, are_checked_and_nothing_is_enqueued) {
  SKIP_WITHOUT_GPUS(1);
  const GpuRank self(make_thread_exchange(1)[0], 1);
  const Window window = self.group().window(64);
  EXPECT_EQ(window.num_bytes(), 64);
  EXPECT_EQ(window.device_window().num_bytes, 64);
  EXPECT_EQ(window.mapped(0), window.local());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(window.local()) % 4096, 0);
  std::uint64_t word = 7;
  const cudaStream_t stream = self.stream();
  expect_error([&] { window.put(1, 0, &word, 8, stream); }, ErrorCode::kInvalidArgument, "rank 1 was named");
  expect_error([&] { window.put(0, 60, &word, 8, stream); }, ErrorCode::kInvalidArgument, "8 bytes at offset 60");
  expect_error([&] { window.put(0, 0, nullptr, 8, stream); }, ErrorCode::kInvalidArgument, "source of a put is a null");
  expect_error([&] { window.signal(0, 4, 1, stream); }, ErrorCode::kInvalidArgument, "not a multiple of 8");
  expect_error([&] { window.wait(64, Compare::kEqual, 1, stream); }, ErrorCode::kInvalidArgument, "offset 64");
  self.finish();
  EXPECT_EQ(window.load(0), 0);
}

TEST(gpu_window_arguments, an_empty_window_is_one) {
  SKIP_WITHOUT_GPUS(1);
  const GpuRank self(make_thread_exchange(1)[0], 1);
  EXPECT_EQ(self.group().window(0).num_bytes(), 0);
}

TEST(gpu_window_arguments, host_windows_have_no_verbs_in_streams) {
  const Window window = Group::create(make_thread_exchange(1)[0], patient()).window(64);
  std::uint64_t word = 7;
  const Stream stream = nullptr;
  const auto expect_unsupported = [](auto&& call) { expect_error(call, ErrorCode::kUnsupported, "lies in host memory"); };
  expect_unsupported([&] { window.put(0, 0, &word, 8, stream); });
  expect_unsupported([&] { window.signal(0, 0, 1, stream); });
  expect_unsupported([&] { window.wait(0, Compare::kEqual, 0, stream); });
  expect_unsupported([&] { window.device_window(); });
}

}  // namespace
}  // namespace tokenyard::test
