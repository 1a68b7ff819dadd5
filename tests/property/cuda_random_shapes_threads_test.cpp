// Random shapes in throughput mode, with ranks as threads whose windows are on GPUs: what a call promises does not depend on
// where the ranks live.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/cuda/device_array.hpp"
#include "tests/property/run_case.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/number_in_environment.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumShapesOnGpus = 400;
constexpr int kNumExchanges = 2'000;
constexpr int kCallsPerCase = 250;

std::string run_on_gpus(const Case& random_case) {
  const auto& gpus = gpu_ranks(options_for_gpus().max_num_ranks);
  std::vector<std::unique_ptr<Residence>> residences;
  for (int rank = 0; rank < random_case.num_ranks; ++rank) {
    residences.push_back(std::make_unique<GpuResidence>(
        gpus[rank].get(),
        GpuResidence::Options{
            .seed = random_case.seed, .rank = rank, .num_ranks = random_case.num_ranks, .shake = random_case.shake}));
  }
  return run_with_threads(random_case, residences);
}

// TOKENYARD_TEST_SHAPES asks for another number, TOKENYARD_TEST_CASE=number for one case alone.
TEST(cuda_random_shapes, thread_ranks_agree_with_the_reference) {
  SKIP_WITHOUT_GPUS(1);
  const std::uint64_t seed = seed_of_tests();
  const auto only = static_cast<int>(number_in_environment("TOKENYARD_TEST_CASE", -1));
  const auto num_shapes = static_cast<int>(number_in_environment("TOKENYARD_TEST_SHAPES", kNumShapesOnGpus));
  const int last = only >= 0 ? only : num_shapes - 1;
  int num_failed = 0;
  for (int index = std::max(only, 0); index <= last && num_failed < 3; ++index) {
    const std::string wrong = run_on_gpus(make_random_case(seed, index, options_for_gpus()));
    if (wrong.empty()) continue;
    ++num_failed;
    ADD_FAILURE() << "TOKENYARD_TEST_SEED=" << seed << " TOKENYARD_TEST_CASE=" << index << ":\n" << wrong;
  }
}

// Long cases with delays on the host, in the streams before calls and behind them, and in kernels before they signal and before
// they wait. TOKENYARD_TEST_EXCHANGES asks for another number.
TEST(cuda_delays, leave_every_row_right) {
  SKIP_WITHOUT_GPUS(1);
  const std::int64_t num_wanted = number_in_environment("TOKENYARD_TEST_EXCHANGES", kNumExchanges);
  const std::uint64_t seed = seed_of(seed_of_tests(), 78);
  std::int64_t num_done = 0;
  for (int index = 0; num_done < num_wanted; ++index) {
    const int num_calls = static_cast<int>(std::min<std::int64_t>(kCallsPerCase, num_wanted));
    CaseOptions options = options_for_gpus();
    options.num_ranks = 2 + index % 7;
    options.num_calls = num_calls;
    const Case random_case = make_random_case(seed, index, options);
    const std::string wrong = run_on_gpus(random_case);
    ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << ", case " << index << ":\n" << wrong;
    num_done += num_exchanges_of(random_case);
  }
  RecordProperty("exchanges", std::to_string(num_done));
}

}  // namespace
}  // namespace tokenyard::test
