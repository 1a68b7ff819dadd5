// What a benchmark tells people and programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/record.hpp"

namespace tokenyard::cli {

// One operation over all ranks.
struct OperationTotals {
  std::string operation;
  std::vector<double> microseconds;  // by iteration, of the slowest rank
  std::int64_t wire_bytes = 0;
  std::int64_t local_bytes = 0;
  std::int64_t wrong_rows = 0;
};

// The bytes that an operation of this name moves; microseconds and wrong_rows stay empty.
OperationTotals bytes_of_operation(const BenchSetup& setup, const std::string& operation);

// The line of an operation, under the names of the columns.
Record to_result(const BenchSetup& setup, const OperationTotals& totals);

// The configuration, under names that stand in the JSON as they are.
Record bench_header(const BenchSetup& setup);

// The header for people: what is measured, and what the columns mean.
std::string bench_heading(const BenchSetup& setup);

// How many times the bytes per second of `reference` the operation `dispatch` reaches, under names like dispatch_over_memcpy;
// only for references that are among the results.
Record bench_ratios(const std::vector<Record>& results);

std::string ratio_lines(const Record& ratios);

}  // namespace tokenyard::cli
