// Whether ranks have cores.
#pragma once

#include <string>
#include <vector>

#include "cli/doctor/finding.hpp"

namespace tokenyard::cli {

struct CoresOfRanks {
  int num_ranks = 1;  // that run on this host
  int num_host_cores = 1;
  std::vector<int> allowed_cores;  // that any of them may run on, ascending
};

// The numbers of the cores that this process may run on; empty where the system does not tell.
std::vector<int> list_allowed_cores();

// Adds a line `name`: a warning with the cure where ranks must share cores.
void judge_cores(SectionFindings& findings, const std::string& name, const CoresOfRanks& cores);

}  // namespace tokenyard::cli
