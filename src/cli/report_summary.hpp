// All that a report shows, as JSON: what `tokenyard report --json` prints and what its page draws.
#pragma once

#include <string>
#include <vector>

#include "cli/blame.hpp"
#include "cli/late_rank.hpp"
#include "cli/timeline.hpp"

namespace tokenyard::cli {

struct GroupReport {
  Timeline timeline;
  Blame blame;
  Verdict verdict;
};

struct ReportHeader {
  std::vector<std::string> files;
  std::vector<std::string> notes;  // what the reader should know about the files
  int num_groups = 0;              // in the files; the report shows the first of them
};

// Indented for people, or without any space between tokens.
enum class JsonStyle : std::uint8_t { kIndented, kDense };

std::string report_json(const ReportHeader& header, const std::vector<GroupReport>& groups, JsonStyle style);

}  // namespace tokenyard::cli
