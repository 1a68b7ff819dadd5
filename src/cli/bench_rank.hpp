// One rank of a benchmark: runs the operations and takes the times.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {

// What one rank measured of one operation.
struct Measurement {
  std::string operation;
  std::vector<double> microseconds;  // by iteration, warm-ups not counted
  std::int64_t wrong_rows = 0;       // over all iterations, warm-ups included
};

// Collective. The operations come in the same order on all ranks.
std::vector<Measurement> measure_rank(const BenchSetup& setup, const Group& group);

}  // namespace tokenyard::cli
