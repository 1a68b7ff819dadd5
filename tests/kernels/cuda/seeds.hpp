// Which random cases a test runs. TOKENYARD_TEST_SEED=n runs one, to look at a failure again; TOKENYARD_TEST_SHAPES=n sets how
// many.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "tests/support/random_bits.hpp"

namespace tokenyard::test {

inline std::vector<std::uint64_t> seeds(int most) {
  if (const char* seed = std::getenv("TOKENYARD_TEST_SEED")) return {std::strtoull(seed, nullptr, 10)};
  const char* shapes = std::getenv("TOKENYARD_TEST_SHAPES");
  const int num_seeds = shapes == nullptr ? most : std::max(1, std::min(most, std::atoi(shapes)));
  std::vector<std::uint64_t> drawn;
  for (int i = 0; i < num_seeds; ++i) drawn.push_back(seed_of(20'261, i));
  return drawn;
}

}  // namespace tokenyard::test
