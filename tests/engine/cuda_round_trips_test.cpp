// The round trips of the small layer with ranks on GPUs.
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "base/cuda_error.hpp"
#include "tests/engine/cuda_small_rank.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/random_bits.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRounds = 20;

class CudaRoundTrips : public testing::TestWithParam<int> {};

TEST_P(CudaRoundTrips, return_every_row) {
  SKIP_WITHOUT_GPUS(1);
  const int num_ranks = GetParam();
  const auto& gpus = gpu_ranks(num_ranks);
  run_thread_ranks(num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    GpuResidence residence(gpus[rank].get(), {.seed = 11, .rank = rank, .num_ranks = num_ranks, .shake = true});
    residence.enter();
    GroupOptions options = patient();
    residence.choose(&options);
    const Group group = Group::create(std::move(exchange), options);
    const Plan plan = group.plan(small_shape(num_ranks));
    for (int round = 0; round < kNumRounds && !testing::Test::HasFailure(); ++round) {
      expect_round_trip(plan, rank, num_ranks, round, &residence);
    }
    EXPECT_FALSE(group.status().has_value());
  });
}

INSTANTIATE_TEST_SUITE_P(Of, CudaRoundTrips, testing::Values(1, 2, 3, 8),
                         [](const auto& param_info) { return std::to_string(param_info.param) + "_ranks"; });

// Makes calls while the kernels of all ranks dawdle; collective.
void call_with_delays(CudaSmallRank& rank, std::uint64_t seed, const std::function<void()>& calls) {
  rank.meet();
  rank.gpu->delay_kernels(seed);
  rank.meet();
  calls();
  rank.finish();
  EXPECT_FALSE(rank.group.status().has_value());
  rank.meet();
  rank.gpu->delay_kernels(0);
}

// Who wants its rows in a tensor says so in a header: others must have looked there before they say that all is sent, since
// what comes next in the slot may say something else.
TEST(CudaDispatches, of_ranks_that_want_their_rows_elsewhere_now_and_then_go_together) {
  SKIP_WITHOUT_GPUS(1);
  constexpr int kNumDispatches = 60;
  run_cuda_threads(4, [](CudaSmallRank& rank) {
    call_with_delays(rank, 20'261'127, [&] {
      std::optional<TensorView> elsewhere;
      std::vector<std::byte> expected;
      for (int i = 0; i < kNumDispatches && !testing::Test::HasFailure(); ++i) {
        DispatchArgs args = rank.dispatch(kAmple);
        args.slot = 0;
        if (elsewhere && rank.rank % 2 == i % 2) {
          check_cuda(cudaMemsetAsync(elsewhere->data, 0xff, elsewhere->num_elements() * sizeof(float), rank.gpu->stream()),
                     "cudaMemsetAsync");
          args.outputs = {&*elsewhere, 1};
        }
        const Received received = rank.capacity_plan.dispatch(args);
        if (!elsewhere) elsewhere = rank.zeros({received.lane(0).shape[0], received.lane(0).shape[1]});
        if (i % 5 != 0) continue;  // most follow each other without the host
        std::vector<std::byte> rows(received.routing().num_recv_rows() * kHidden * sizeof(float));
        check_cuda(cudaMemcpyAsync(rows.data(), received.lane(0).data, rows.size(), cudaMemcpyDefault, rank.gpu->stream()),
                   "cudaMemcpyAsync");
        rank.finish();
        if (i == 0) expected = rows;
        EXPECT_TRUE(rows == expected) << "dispatch " << i;
      }
    });
    rank.expect_sum_of(rank.capacity_plan);
  });
}

// Those that are read in place say so in a header, and those that send their rows say something else in theirs: however late
// the blocks of their kernels come, it stands there before it is looked at.
TEST(CudaCombines, of_ranks_that_send_and_ranks_that_are_read_in_place_go_together) {
  SKIP_WITHOUT_GPUS(1);
  constexpr int kNumCombines = 60;
  run_cuda_threads(4, [](CudaSmallRank& rank) {
    call_with_delays(rank, 20'250'101, [&] {
      std::optional<TensorView> elsewhere;
      for (int i = 0; i < kNumCombines && !testing::Test::HasFailure(); ++i) {
        const Received received = rank.capacity_plan.dispatch(rank.dispatch(kAmple));
        const Routing routing = received.routing();
        ConstTensorView rows = received.lane(0);
        if (rank.rank % 2 == i % 2) {
          const std::size_t num_bytes = rows.num_elements() * size_of(rows.dtype);
          if (!elsewhere) elsewhere = rank.zeros({rows.shape[0], rows.shape[1]});
          check_cuda(cudaMemcpyAsync(elsewhere->data, rows.data, num_bytes, cudaMemcpyDefault, rank.gpu->stream()), "a copy");
          rows = *elsewhere;
        }
        rank.capacity_plan.combine(rank.combine(routing, rows, kAmple));
        rank.finish();
        EXPECT_FALSE(rank.group.status().has_value());
        rank.expect_sum();
      }
    });
  });
}

// Over rows of the caller's, and over those of the slot that peers would read in place.
TEST(CudaCombines, may_write_sums_over_the_rows_they_are_made_of) {
  SKIP_WITHOUT_GPUS(1);
  run_cuda_threads(3, [](CudaSmallRank& rank) {
    for (const bool in_slot : {false, true}) {
      for (const bool in_halves : {false, true}) {
        SCOPED_TRACE(testing::Message() << "in the slot: " << in_slot << ", in halves: " << in_halves);
        const Received received = rank.capacity_plan.dispatch(rank.dispatch(kAmple));
        const Routing routing = received.routing();
        TensorView rows = received.lane(0);
        if (!in_slot) {
          rows = rank.zeros({rows.shape[0], rows.shape[1]});
          check_cuda(cudaMemcpyAsync(rows.data, received.lane(0).data, rows.num_elements() * sizeof(float), cudaMemcpyDefault,
                                     rank.gpu->stream()),
                     "cudaMemcpyAsync");
        }
        CombineArgs args = rank.combine(routing, rows, kAmple);
        const TensorView output = args.output;
        args.output.data = rows.data;
        if (in_halves) {
          rank.capacity_plan.begin_combine(args).complete();
        } else {
          rank.capacity_plan.combine(args);
        }
        check_cuda(cudaMemcpyAsync(output.data, rows.data, output.num_elements() * sizeof(float), cudaMemcpyDefault,
                                   rank.gpu->stream()),
                   "cudaMemcpyAsync");
        rank.finish();
        rank.expect_sum();
      }
    }
  });
}

TEST(CudaCalls, may_have_all_the_time_there_is) {
  SKIP_WITHOUT_GPUS(1);
  run_cuda_threads(2, [](CudaSmallRank& rank) {
    for (const std::chrono::milliseconds timeout : {std::chrono::milliseconds::max(), std::chrono::milliseconds::max() / 2}) {
      call_with_delays(rank, 5, [&] {
        for (const Plan* plan : {&rank.plan, &rank.capacity_plan}) {
          for (int i = 0; i < 10; ++i) {
            const Received received = plan->dispatch(rank.dispatch(timeout));
            const TensorView elsewhere = rank.zeros({received.lane(0).shape[0], received.lane(0).shape[1]});
            DispatchArgs args = rank.cached(received.routing(), timeout);
            args.outputs = {&elsewhere, 1};
            const Received again = plan->dispatch(args);
            plan->combine(rank.combine(again.routing(), again.lane(0), timeout));
            rank.finish();
            rank.expect_sum();
          }
        }
      });
    }
  });
}

// With more than four ranks their rows come home in two rounds.
TEST(CudaCombines, by_copy_engines_of_many_ranks_sum_every_row) {
  constexpr int kNumRanks = 6;
  SKIP_WITHOUT_GPUS(kNumRanks);
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int i = 0; i < kNumRounds && !testing::Test::HasFailure(); ++i) rank.expect_sum_of(rank.plan, Copies::kEngine);
  });
}

// More than a warp has lanes, each of which chooses for itself.
TEST(CudaCombines, of_many_ranks_by_copy_engines_and_otherwise_go_together) {
  constexpr int kNumRanks = 36;
  SKIP_WITHOUT_GPUS(kNumRanks);
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    RandomBits random(static_cast<std::uint64_t>(rank.rank));
    for (int i = 0; i < 3 && !testing::Test::HasFailure(); ++i) {
      rank.expect_sum_of(rank.plan, random.pick({Copies::kEngine, Copies::kChosen}));
    }
  });
}

TEST(CudaCombines, by_copy_engines_go_on_behind_a_recovery) {
  constexpr int kNumRanks = 2;
  SKIP_WITHOUT_GPUS(kNumRanks);
  run_cuda_threads(kNumRanks, [](CudaSmallRank& rank) {
    for (int i = 0; i < 3; ++i) rank.expect_sum_of(rank.plan, Copies::kEngine);
    rank.recover_and_go_on();
    for (int i = 0; i < 3; ++i) rank.expect_sum_of(rank.plan, Copies::kEngine);
    rank.recover_and_go_on();
  });
}

}  // namespace
}  // namespace tokenyard::test
