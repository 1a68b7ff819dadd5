// Rank processes on GPUs that are killed in the middle of their work: what the others are told, and how they go on.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/cuda_error.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/engine/shared_report.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

using Clock = std::chrono::steady_clock;  // the same in all processes of a host

constexpr std::int64_t kNumTokens = 256;
constexpr std::int64_t kWideHidden = 4096;
constexpr int kPullsPerRound = 8;
constexpr std::chrono::milliseconds kKernelDeadline{3'000};
constexpr std::chrono::milliseconds kMuchSooner = 15s;  // than the 30 s of calls whose host waits
constexpr std::chrono::milliseconds kSlack = 5s;        // for kernels of several processes that take turns on a GPU

enum class Work : std::uint8_t {
  kSized,      // dispatches whose sizes the host waits for
  kCapacity,   // dispatches that nobody waits for on the host
  kInPlace,    // with combines that read rows in the slots of others, which takes most of the time
  kByEngines,  // with combines whose rows copy engines carry
  kSizedIdle,  // as kSized, but the victim does nothing
  kCapacityIdle
};

struct Report {
  std::atomic<int> num_at_work;
  std::atomic<std::int64_t> killed_at;  // of Clock
};

struct Trial {
  const char* name;
  Work work;
  int victim;
  std::chrono::microseconds delay;  // from the moment when all are at work to the kill
  int num_ranks = 3;

  bool sized() const { return work == Work::kSized || work == Work::kSizedIdle || work == Work::kByEngines; }
  bool pulls() const { return work == Work::kInPlace || work == Work::kByEngines; }
  // From the kill to the moment when all others know of it.
  std::chrono::milliseconds limit() const {
    return work == Work::kSized || work == Work::kSizedIdle ? kMuchSooner : kKernelDeadline + kSlack;
  }
  bool idle() const { return work == Work::kSizedIdle || work == Work::kCapacityIdle; }
};

// So much in every dispatch that most of the time goes into moving rows.
Shape wide_shape(const Trial& trial) {
  Shape shape;
  shape.num_experts = 2 * trial.num_ranks;
  shape.top_k = kTopK;
  shape.max_tokens = kNumTokens;
  shape.lanes = {{DataType::kFloat32, kWideHidden}};
  shape.overflow = trial.sized() ? Overflow::kGrow : Overflow::kDrop;
  return shape;
}

// Works until something goes wrong: what, as far as this rank is told.
Failure work_until_failure(const Group& group, const Plan& plan, const Trial& trial, GpuRank* gpu, Report* report) {
  GpuResidence residence(gpu, {.seed = 5, .rank = group.rank(), .num_ranks = trial.num_ranks});
  const auto lane_memory = residence.allocate(kNumTokens * kWideHidden * sizeof(float));
  const auto ids_memory = residence.allocate(kNumTokens * kTopK * sizeof(std::int32_t));
  const auto output_memory = residence.allocate(kNumTokens * kWideHidden * sizeof(float));
  std::memset(lane_memory->bytes(), 0, lane_memory->num_bytes());
  auto* const ids = reinterpret_cast<std::int32_t*>(ids_memory->bytes());
  for (std::int64_t pair = 0; pair < kNumTokens * kTopK; ++pair) {
    ids[pair] = static_cast<std::int32_t>((pair / kTopK + 2 * (pair % kTopK) + group.rank()) % (2 * trial.num_ranks));
  }
  const ConstTensorView lane =
      lane_memory->for_call(ConstTensorView(lane_memory->bytes(), DataType::kFloat32, {kNumTokens, kWideHidden}));
  const TensorView output =
      output_memory->for_call(TensorView(output_memory->bytes(), DataType::kFloat32, {kNumTokens, kWideHidden}));
  DispatchArgs dispatch;
  dispatch.lanes = {&lane, 1};
  dispatch.topk_idx = ids_memory->for_call(ConstTensorView(ids, DataType::kInt32, {kNumTokens, kTopK}));
  dispatch.timeout = trial.sized() ? std::chrono::milliseconds(30s) : kKernelDeadline;
  dispatch.execution.stream = gpu->stream();
  try {
    for (int round = 0;; ++round) {
      if (round == 1) {
        ++report->num_at_work;
        const bool waits_to_die = group.rank() == trial.victim && trial.idle();
        while (waits_to_die) std::this_thread::sleep_for(1s);
      }
      const Received received = plan.dispatch(dispatch);
      for (int pull = 0; trial.pulls() && pull < kPullsPerRound; ++pull) {
        const Routing routing = received.routing();
        CombineArgs combine;
        combine.routing = &routing;
        combine.rows = received.lane(0);
        combine.output = output;
        combine.timeout = kKernelDeadline;
        combine.execution.stream = gpu->stream();
        if (trial.work == Work::kByEngines) combine.execution.copies = Copies::kEngine;
        plan.combine(combine);
      }
      if (!trial.sized() || round % 4 == 3) check_cuda(cudaStreamSynchronize(gpu->stream()), "cudaStreamSynchronize");
      if (const auto failure = group.status()) return *failure;
    }
  } catch (const Error& error) {
    EXPECT_NE(error.failure().culprit, -1) << error.what();
    return error.failure();
  }
}

void expect_usable(const GpuRank& gpu) {
  EXPECT_EQ(cudaStreamSynchronize(gpu.stream()), cudaSuccess) << "its kernels have ended";
  enqueue_delay(gpu.stream(), 10us);
  EXPECT_EQ(cudaStreamSynchronize(gpu.stream()), cudaSuccess);
  std::uint64_t* on_device = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&on_device), sizeof(*on_device)), cudaSuccess);
  const std::uint64_t sent = 0x0123456789abcdef;
  std::uint64_t returned = 0;
  EXPECT_EQ(cudaMemcpy(on_device, &sent, sizeof(sent), cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(&returned, on_device, sizeof(sent), cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(returned, sent);
  cudaFree(on_device);
}

void survive(int rank, const Trial& trial, const std::array<TestListener, 2>& listeners, Report* report) {
  GpuRank gpu(rank);
  GroupOptions options = patient();
  options.device = gpu.device();
  options.num_sms = 8;
  options.copy_engines = trial.work == Work::kByEngines;
  {
    const Group group = Group::create(make_tcp_exchange(rendezvous_at(listeners[0], rank, trial.num_ranks)), options);
    const Plan plan = group.plan(wide_shape(trial));
    const Failure failure = work_until_failure(group, plan, trial, &gpu, report);
    const Clock::duration since_kill = Clock::now().time_since_epoch() - Clock::duration(report->killed_at.load());
    EXPECT_STREQ(to_string(failure.code), to_string(ErrorCode::kPeerLost));
    EXPECT_EQ(failure.culprit, trial.victim) << to_string(failure.phase) << ", says rank " << failure.reporter;
    EXPECT_LT(since_kill, trial.limit());
    expect_usable(gpu);
    EXPECT_THROW(group.recover(), Error);
  }
  expect_usable(gpu);

  const int num_survivors = trial.num_ranks - 1;
  const int new_rank = rank < trial.victim ? rank : rank - 1;
  const Group group = Group::create(make_tcp_exchange(rendezvous_at(listeners[1], new_rank, num_survivors)), options);
  const Plan plan = group.plan(small_shape(num_survivors));
  GpuResidence residence(&gpu, {.seed = 6, .rank = new_rank, .num_ranks = trial.num_ranks});
  for (int round = 0; round < 5; ++round) expect_round_trip(plan, new_rank, num_survivors, round, &residence);
  EXPECT_FALSE(group.status().has_value());
  group.barrier();
}

class CudaKilledRank : public testing::TestWithParam<Trial> {};

TEST_P(CudaKilledRank, is_named_by_all_others_who_go_on_without_it) {
  const Trial& trial = GetParam();
  SKIP_WITHOUT_GPUS_APART(trial.work == Work::kByEngines ? trial.num_ranks : 1);
  SharedReport<Report> report;
  const std::array<TestListener, 2> listeners{listen_on_loopback(), listen_on_loopback()};
  RankProcesses processes(trial.num_ranks, [&](int rank) {
    if (rank != 0) close(listeners[0].fd);
    if (rank != (trial.victim == 0 ? 1 : 0)) close(listeners[1].fd);
    survive(rank, trial, listeners, report.operator->());
  });
  for (const TestListener& listener : listeners) close(listener.fd);

  const Deadline start(60s);
  while (report->num_at_work < trial.num_ranks && !start.passed()) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(trial.delay);
  report->killed_at = Clock::now().time_since_epoch().count();
  processes.send_signal(trial.victim, SIGKILL);
  const std::vector<ProcessResult> results = processes.wait(100s);
  for (int rank = 0; rank < trial.num_ranks; ++rank) {
    EXPECT_EQ(results[rank].signal, rank == trial.victim ? SIGKILL : 0) << "rank " << rank;
    if (rank != trial.victim) {
      EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, CudaKilledRank,
                         testing::Values(Trial{"sized_before_a_dispatch", Work::kSizedIdle, 0, 50ms},
                                         Trial{"capacity_before_a_dispatch", Work::kCapacityIdle, 2, 50ms},
                                         Trial{"sized_in_a_push", Work::kSized, 1, 83ms},
                                         Trial{"capacity_in_a_push", Work::kCapacity, 0, 61ms},
                                         Trial{"capacity_later_in_a_push", Work::kCapacity, 2, 200ms},
                                         Trial{"in_place_while_it_is_read", Work::kInPlace, 1, 97ms},
                                         Trial{"in_place_later_while_it_is_read", Work::kInPlace, 2, 301ms},
                                         Trial{"in_place_while_it_is_read_on_another_gpu", Work::kInPlace, 1, 143ms, 2},
                                         Trial{"while_copy_engines_carry_rows", Work::kByEngines, 1, 97ms, 2},
                                         Trial{"later_while_copy_engines_carry_rows", Work::kByEngines, 0, 211ms, 2}),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace tokenyard::test
