// Random cases from beginning to end.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/random_case.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {

// Runs the case with ranks as threads. Returns what was found wrong, with all that one needs to find out why; empty if all is
// well.
std::string run_with_threads(const Case& random_case);

// This rank's part of the case in a group of processes.
std::string run_in_group(const Case& random_case, const Group& group);

// TOKENYARD_TEST_SEED, or the one that is always used.
std::uint64_t seed_of_tests();

// How many of `num_shapes` (out of 2,000 in all) to run: TOKENYARD_TEST_SHAPES asks for fewer or more than 2,000.
int num_shapes_of(int num_shapes);

}  // namespace tokenyard::test
