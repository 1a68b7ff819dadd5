// Random shapes in throughput mode, with ranks as processes on GPUs of their own, or on those that they share.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/hooks.hpp"
#include "tests/property/run_case.hpp"
#include "tests/support/ample_time.hpp"
#include "tests/support/gpu_residence.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/number_in_environment.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumShapesOnGpus = 60;
constexpr int kNumExchanges = 1'000;
constexpr int kCallsPerCase = 250;

// TOKENYARD_TEST_RANKS asks for another number.
int num_ranks_of_tests() { return static_cast<int>(number_in_environment("TOKENYARD_TEST_RANKS", 2)); }

// One of the ranks, which plays one case after the other in the same group.
class CaseRank {
 public:
  CaseRank(std::shared_ptr<Exchange> exchange, std::uint64_t seed) : rank_(exchange->rank()), gpu_(rank_) {
    GroupOptions options;
    options.timeout = 2 * ample_time();
    options.waiting = Waiting::kYield;
    GpuResidence(&gpu_, residence_options(seed, false)).choose(&options);
    group_.emplace(Group::create(std::move(exchange), options));
  }

  std::string run(const Case& random_case) {
    set_delay_seed(random_case.shake ? random_case.seed | 1 : 0);
    GpuResidence residence(&gpu_, residence_options(random_case.seed, random_case.shake));
    return run_in_group(random_case, *group_, &residence);
  }

 private:
  GpuResidence::Options residence_options(std::uint64_t seed, bool shake) const {
    return {.seed = seed, .rank = rank_, .num_ranks = num_ranks_of_tests(), .shake = shake};
  }

  int rank_;
  GpuRank gpu_;
  std::optional<Group> group_;
};

void run_processes(std::uint64_t seed, const std::function<void(CaseRank&)>& body) {
  const std::vector<ProcessResult> results = run_process_ranks(
      num_ranks_of_tests(),
      [&](std::shared_ptr<Exchange> exchange) {
        CaseRank rank(std::move(exchange), seed);
        body(rank);
      },
      std::chrono::minutes(60));
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

// TOKENYARD_TEST_SHAPES asks for another number, TOKENYARD_TEST_CASE=number for one case alone.
TEST(cuda_random_shapes, process_ranks_agree_with_the_reference) {
  SKIP_WITHOUT_GPUS_APART(1);
  const std::uint64_t seed = seed_of(seed_of_tests(), 79);
  const auto only = static_cast<int>(number_in_environment("TOKENYARD_TEST_CASE", -1));
  const auto num_shapes = static_cast<int>(number_in_environment("TOKENYARD_TEST_SHAPES", kNumShapesOnGpus));
  const int last = only >= 0 ? only : num_shapes - 1;
  run_processes(seed, [&](CaseRank& rank) {
    for (int index = std::max(only, 0); index <= last; ++index) {
      CaseOptions options = options_for_gpus();
      options.num_ranks = num_ranks_of_tests();
      const std::string wrong = rank.run(make_random_case(seed, index, options));
      ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << " TOKENYARD_TEST_CASE=" << index << ":\n"
                                 << wrong;
    }
  });
}

// Long cases with delays on the host, in the streams and in kernels. TOKENYARD_TEST_EXCHANGES asks for another number.
TEST(cuda_delays, leave_every_row_of_process_ranks_right) {
  SKIP_WITHOUT_GPUS_APART(1);
  const std::uint64_t seed = seed_of(seed_of_tests(), 80);
  const std::int64_t num_wanted = number_in_environment("TOKENYARD_TEST_EXCHANGES", kNumExchanges);
  run_processes(seed, [&](CaseRank& rank) {
    std::int64_t num_done = 0;
    for (int index = 0; num_done < num_wanted; ++index) {
      CaseOptions options = options_for_gpus();
      options.num_ranks = num_ranks_of_tests();
      options.num_calls = static_cast<int>(std::min<std::int64_t>(kCallsPerCase, num_wanted));
      const Case random_case = make_random_case(seed, index, options);
      const std::string wrong = rank.run(random_case);
      ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << ", case " << index << ":\n" << wrong;
      num_done += num_exchanges_of(random_case);
    }
  });
}

}  // namespace
}  // namespace tokenyard::test
