#include "cli/bench_output.hpp"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "cli/json.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

std::string bench_table(const std::vector<Record>& results) {
  std::vector<std::string> heading;
  for (const auto& [name, value] : results.front()) heading.push_back(name);
  Table table(std::move(heading));
  for (const Record& result : results) {
    std::vector<std::string> cells;
    for (const auto& [name, value] : result) cells.push_back(to_cell(value));
    table.add_row(std::move(cells));
  }
  return table.to_string();
}

void write_results(const std::string& path, const Record& header, const std::vector<Record>& results) {
  errno = 0;
  std::ofstream file(path, std::ios::trunc);
  file << to_json(header, "results", results);
  file.close();
  if (file) return;
  const int number = errno;
  fail(ErrorCode::kSystem, "cannot write \"{}\": {}", path, std::generic_category().message(number == 0 ? EIO : number));
}

bool has_wrong_rows(const std::vector<Record>& results) {
  for (const Record& result : results) {
    if (find(result, "wrong_rows").integer != 0) return true;
  }
  return false;
}

}  // namespace tokenyard::cli
