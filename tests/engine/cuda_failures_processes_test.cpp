// Failures of ranks that are processes, on GPUs of their own or on one that they share.
#include <gtest/gtest.h>

#include "tests/engine/cuda_failure_stories.hpp"
#include "tests/support/gpus_apart.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;

TEST(cuda_process_failures, are_told_to_all_and_recovered_from) {
  SKIP_WITHOUT_GPUS_APART(1);
  run_cuda_processes(kNumRanks, [](CudaSmallRank& rank) {
    for (const CudaSilence& silence : cuda_silences()) {
      SCOPED_TRACE(silence.name);
      rank_0_keeps_silent(rank, silence);
    }
    for (const CudaDisagreement& disagreement : cuda_disagreements()) {
      SCOPED_TRACE(disagreement.name);
      rank_1_makes_another_call(rank, disagreement);
    }
    rank_1_gives_a_bad_id(rank, rank.plan, 2 * kNumRanks);
    rank_1_gives_a_bad_id(rank, rank.capacity_plan, -2);
  });
}

}  // namespace
}  // namespace tokenyard::test
