#include "cli/doctor/cores.hpp"

#include <fmt/core.h>
#include <sched.h>

#include "cli/doctor/number_ranges.hpp"

namespace tokenyard::cli {

std::vector<int> list_allowed_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &allowed)) cores.push_back(core);
  }
  return cores;
}

void judge_cores(SectionFindings& findings, const std::string& name, const CoresOfRanks& cores) {
  if (cores.allowed_cores.empty()) {
    findings.not_applicable(name, "the system does not tell which cores these ranks may use");
    return;
  }
  const auto num_allowed = static_cast<int>(cores.allowed_cores.size());
  const std::string value = fmt::format("{} of {} allowed ({}) for {} rank{}", num_allowed, cores.num_host_cores,
                                        to_ranges(cores.allowed_cores), cores.num_ranks, cores.num_ranks == 1 ? "" : "s");
  if (num_allowed >= cores.num_ranks) {
    findings.ok(name, value);
    return;
  }
  const char* why = "ranks take turns on a core, and a signal then takes as long as the other's turn";
  if (num_allowed < cores.num_host_cores) {
    findings.warning(name, value, why,
                     fmt::format("widen the affinity: taskset -c 0-{} COMMAND, mpirun --bind-to none, srun --cpu-bind=none "
                                 "--cpus-per-task; in a container, its cpuset",
                                 cores.num_host_cores - 1));
  } else {
    findings.warning(name, value, why, fmt::format("start {} ranks or fewer on this host", num_allowed));
  }
}

}  // namespace tokenyard::cli
