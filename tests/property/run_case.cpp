#include "tests/property/run_case.hpp"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "base/hooks.hpp"
#include "tests/property/rank_run.hpp"
#include "tests/support/ample_time.hpp"
#include "tests/support/number_in_environment.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

GroupOptions options_of(const Case& random_case) {
  GroupOptions options;
  options.timeout = 2 * ample_time();
  options.waiting = random_case.spin ? Waiting::kAuto : Waiting::kYield;
  return options;
}

std::string report(const Case& random_case, const Findings& findings) {
  if (findings.empty()) return {};
  return findings.text() + describe(random_case);
}

}  // namespace

std::string run_with_threads(const Case& random_case) {
  std::vector<std::unique_ptr<Residence>> residences;
  for (int rank = 0; rank < random_case.num_ranks; ++rank) residences.push_back(std::make_unique<HostResidence>());
  return run_with_threads(random_case, residences);
}

std::string run_with_threads(const Case& random_case, const std::vector<std::unique_ptr<Residence>>& residences) {
  const Expectations expectations(random_case);
  Findings findings;
  set_delay_seed(random_case.shake ? random_case.seed | 1 : 0);
  run_thread_ranks(random_case.num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    try {
      Residence* residence = residences[rank].get();
      residence->enter();
      GroupOptions options = options_of(random_case);
      residence->choose(&options);
      const Group group = Group::create(std::move(exchange), options);
      RankRun(random_case, expectations, group, residence, &findings).run();
    } catch (const std::exception& error) {
      // Its peers learn that this rank has left.
      findings.add("rank {} threw: {}", rank, error.what());
    }
  });
  return report(random_case, findings);
}

std::string run_in_group(const Case& random_case, const Group& group, Residence* residence) {
  const Expectations expectations(random_case);
  Findings findings;
  try {
    RankRun(random_case, expectations, group, residence, &findings).run();
  } catch (const std::exception& error) {
    throw std::runtime_error(fmt::format("rank {} threw: {}\n{}", group.rank(), error.what(), describe(random_case)));
  }
  return report(random_case, findings);
}

CaseOptions options_for_gpus() {
  return {.max_num_ranks = 8, .mode = Mode::kThroughput, .uses_float8 = number_in_environment("TOKENYARD_TEST_FLOAT8", 1) != 0};
}

std::int64_t num_exchanges_of(const Case& random_case) {
  return std::count_if(random_case.steps.begin(), random_case.steps.end(), [](const Step& step) {
    return step.call == Call::kDispatch || step.call == Call::kCachedDispatch || step.call == Call::kCombine;
  });
}

std::uint64_t seed_of_tests() { return static_cast<std::uint64_t>(number_in_environment("TOKENYARD_TEST_SEED", 20'250'101)); }

int num_shapes_to_run(int num_shapes) {
  const std::int64_t num_wanted = number_in_environment("TOKENYARD_TEST_SHAPES", kNumShapes);
  return static_cast<int>((num_shapes * num_wanted + kNumShapes - 1) / kNumShapes);
}

}  // namespace tokenyard::test
