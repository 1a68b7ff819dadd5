// A rank as its host's system sees it.
#pragma once

#include <sys/types.h>

#include <exception>
#include <string>
#include <vector>

#include "cli/doctor/finding.hpp"

namespace tokenyard::cli {

struct RankProcess {
  std::string host;   // empty: unknown
  pid_t process = 0;  // 0: unknown
};

// "rank 2 (process 4711 on node7)", as far as it is known.
std::string name_of(int rank, const RankProcess& process);

// The system's letter for the state of a process of this host, as in /proc: 'T' is stopped, 'Z' has ended or is about to. 0 if
// there is none.
char state_of(pid_t process);

// Adds the failure `name` for an error that ended a step on `rank`, and names the rank that it blames: with the state of its
// process, if that runs on this host, and the cure that follows from it.
void report_error(SectionFindings& findings, const std::string& name, const std::exception& error, int rank,
                  const std::vector<RankProcess>& processes);

}  // namespace tokenyard::cli
