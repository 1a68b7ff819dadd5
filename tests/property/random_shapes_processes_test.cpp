// Random shapes, with ranks as processes: each set of processes runs many of them in one group.
#include <gtest/gtest.h>

#include "base/hooks.hpp"
#include "tests/property/run_case.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

struct Processes {
  int num_ranks;
  int num_shapes;
};

class RandomShapes : public testing::TestWithParam<Processes> {};

TEST_P(RandomShapes, process_ranks_agree_with_the_reference) {
  const int num_ranks = GetParam().num_ranks;
  const int num_cases = num_shapes_to_run(GetParam().num_shapes);
  // Other cases than those of the threads.
  const std::uint64_t seed = seed_of(seed_of_tests(), num_ranks);
  const auto run_cases = [&](std::shared_ptr<Exchange> exchange) {
    GroupOptions options;
    options.timeout = std::chrono::seconds(60);
    options.waiting = Waiting::kYield;
    const Group group = Group::create(std::move(exchange), options);
    HostResidence residence;
    for (int index = 0; index < num_cases; ++index) {
      const Case random_case = make_random_case(seed, index, {.num_ranks = num_ranks});
      set_delay_seed(random_case.shake ? random_case.seed | 1 : 0);
      const std::string wrong = run_in_group(random_case, group, &residence);
      ASSERT_TRUE(wrong.empty()) << "TOKENYARD_TEST_SEED=" << seed_of_tests() << ", case " << index << ":\n" << wrong;
    }
  };
  const std::vector<ProcessResult> results = run_process_ranks(num_ranks, run_cases);
  for (int rank = 0; rank < num_ranks; ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, RandomShapes,
                         testing::Values(Processes{1, 6}, Processes{2, 60}, Processes{3, 40}, Processes{4, 50},
                                         Processes{6, 20}, Processes{8, 22}, Processes{64, 2}),
                         [](const auto& param_info) { return std::to_string(param_info.param.num_ranks) + "_ranks"; });

}  // namespace
}  // namespace tokenyard::test
