// Latency mode measured.
#pragma once

#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/start_ranks.hpp"

namespace tokenyard::cli {

// `setups` has one entry per number of tokens. Returns the program's exit code: 1 if there are wrong rows.
int run_latency_bench(const RankSource& source, const std::vector<BenchSetup>& setups);

}  // namespace tokenyard::cli
