// What a benchmark of latency mode tells people and programs.
#pragma once

#include <string>
#include <vector>

#include "cli/bench_latency_rank.hpp"
#include "cli/bench_setup.hpp"
#include "cli/record.hpp"

namespace tokenyard::cli {

// The line of an operation, under the names of the columns, from what every rank measured of it.
Record to_latency_result(const BenchSetup& setup, const std::vector<LatencyMeasurement>& of_ranks);

// The configuration, under names that stand in the JSON as they are.
Record latency_bench_header(const std::vector<BenchSetup>& setups);

// The header for people: what is measured, and what the columns mean.
std::string latency_bench_heading(const std::vector<BenchSetup>& setups);

// By operation, the largest ratio over all numbers of tokens, under names like worst_dispatch_ratio.
Record worst_ratios(const std::vector<Record>& results);

}  // namespace tokenyard::cli
