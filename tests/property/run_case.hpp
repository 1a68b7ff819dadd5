// Random cases from beginning to end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/random_case.hpp"
#include "tests/support/residence.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {

// Runs the case with ranks as threads. Returns what was found wrong, with all that one needs to find out why; empty if all is
// well.
std::string run_with_threads(const Case& random_case);
std::string run_with_threads(const Case& random_case, const std::vector<std::unique_ptr<Residence>>& residences);  // by rank

// This rank's part of the case in a group of processes.
std::string run_in_group(const Case& random_case, const Group& group, Residence* residence);

// Options for cases whose ranks are on GPUs. TOKENYARD_TEST_FLOAT8=0 leaves out what quantises.
CaseOptions options_for_gpus();

// Dispatches and combines.
std::int64_t num_exchanges_of(const Case& random_case);

// TOKENYARD_TEST_SEED, or the seed that is used otherwise.
std::uint64_t seed_of_tests();

// How many of `num_shapes` random shapes to run. All suites together have kNumShapes; TOKENYARD_TEST_SHAPES asks for another
// number in all, of which each suite takes its share.
inline constexpr int kNumShapes = 2000;
int num_shapes_to_run(int num_shapes);

}  // namespace tokenyard::test
