// Random shapes in throughput mode, with two ranks as processes on two GPUs, or on one that they share.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/hooks.hpp"
#include "tests/property/run_case.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr int kNumShapesOnGpus = 60;

// TOKENYARD_TEST_SHAPES asks for another number, TOKENYARD_TEST_CASE=number for one case alone.
TEST(cuda_random_shapes, process_ranks_agree_with_the_reference) {
  SKIP_WITHOUT_GPUS_APART(1);
  const int num_gpus = count_gpus_apart();
  const std::uint64_t seed = seed_of(seed_of_tests(), 79);
  const auto only = static_cast<int>(number_in_environment("TOKENYARD_TEST_CASE", -1));
  const auto num_shapes = static_cast<int>(number_in_environment("TOKENYARD_TEST_SHAPES", kNumShapesOnGpus));
  const int last = only >= 0 ? only : num_shapes - 1;
  const auto run_cases = [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    GpuRank gpu(rank);
    const auto residence_of = [&](std::uint64_t case_seed, bool shake) {
      return GpuResidence(
          &gpu, {.seed = case_seed, .rank = rank, .num_ranks_per_gpu = num_gpus == 1 ? kNumRanks : 1, .shake = shake});
    };
    GroupOptions group_options;
    group_options.timeout = std::chrono::seconds(60);
    group_options.waiting = Waiting::kYield;
    residence_of(seed, false).choose(&group_options);
    const Group group = Group::create(std::move(exchange), group_options);
    for (int index = std::max(only, 0); index <= last; ++index) {
      CaseOptions options = options_for_gpus();
      options.num_ranks = kNumRanks;
      const Case random_case = make_random_case(seed, index, options);
      set_delay_seed(random_case.shake ? random_case.seed | 1 : 0);
      GpuResidence residence = residence_of(random_case.seed, random_case.shake);
      const std::string wrong = run_in_group(random_case, group, &residence);
      ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << " TOKENYARD_TEST_CASE=" << index << ":\n"
                                 << wrong;
    }
  };
  const std::vector<ProcessResult> results = run_process_ranks(kNumRanks, run_cases, std::chrono::minutes(20));
  for (int rank = 0; rank < kNumRanks; ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

}  // namespace
}  // namespace tokenyard::test
