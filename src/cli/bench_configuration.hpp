// What a benchmark of any mode says of its configuration, to people and to programs.
#pragma once

#include <string>

#include "cli/bench_setup.hpp"
#include "cli/record.hpp"

namespace tokenyard::cli {

// Under names that stand in the JSON as they are. `tokens` is how the mode counts them, `results` what it alone says of where
// results go.
Record configuration_record(const BenchSetup& setup, const Record& tokens, const Record& results);

// Lines of the header.
std::string shape_line(const BenchSetup& setup, const std::string& tokens);
std::string rows_line(const BenchSetup& setup);
std::string cores_line(const BenchSetup& setup);

}  // namespace tokenyard::cli
