// Where a benchmark's results go.
#pragma once

#include <string>
#include <vector>

#include "cli/record.hpp"

namespace tokenyard::cli {

// To standard output, at once.
void print(const std::string& text);

// The results as a table whose columns are the records' fields.
std::string bench_table(const std::vector<Record>& results);

// Writes an object of the header's fields and a list `results`. Throws Error(kSystem) with the path and the reason.
void write_results(const std::string& path, const Record& header, const std::vector<Record>& results);

bool has_wrong_rows(const std::vector<Record>& results);

}  // namespace tokenyard::cli
