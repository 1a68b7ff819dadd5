// Processors, and how many of them the ranks may use.
#include <fmt/core.h>

#include <cstdlib>
#include <vector>

#include "cli/doctor/cgroup.hpp"
#include "cli/doctor/cores.hpp"
#include "cli/doctor/number_ranges.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/host_facts.hpp"

namespace tokenyard::cli {
namespace {

// Before any rank of this program runs.
void judge_load(SectionFindings& findings, int num_cores) {
  double load = 0;
  if (getloadavg(&load, 1) != 1) return;
  const std::string value = fmt::format("{:.1f} on {} cores over the last minute", load, num_cores);
  if (load > num_cores) {
    findings.warning("load", value, "ranks share the cores with other programs, and wait for each other's turns",
                     "top shows the programs: end them, or give the ranks cores of their own (taskset, cpuset)");
  } else {
    findings.ok("load", value);
  }
}

}  // namespace

Findings probe_processors() {
  SectionFindings findings(Section::kProcessor);
  const HostFacts facts = read_host_facts();
  findings.ok("model", fmt::format("{} x {}, {}", facts.num_cores, facts.processor, facts.vector_units));
  judge_load(findings, facts.num_cores);
  return findings.take();
}

Findings probe_cores(const RankPlace& place) {
  SectionFindings findings(Section::kProcessor);
  const HostFacts facts = read_host_facts();
  const std::vector<int> cores = list_allowed_cores();
  // Ranks that a launcher started are judged together, once they have met: each may have cores of its own.
  judge_cores(findings, "cores",
              {.num_ranks = place.num_ranks_of_host, .num_host_cores = facts.num_cores, .allowed_cores = cores});

  const CgroupLimits limits = read_cgroup_limits();
  if (!limits.num_cores) {
    findings.not_applicable("CPU quota", "none is set");
    return findings.take();
  }
  std::string value = fmt::format("{:.2f} cores", *limits.num_cores);
  if (limits.num_throttled > 0) value += fmt::format(", used up {} times so far", limits.num_throttled);
  if (*limits.num_cores >= place.num_ranks_of_host && *limits.num_cores >= static_cast<double>(cores.size())) {
    findings.ok("CPU quota", value);
  } else {
    findings.warning(
        "CPU quota", value,
        fmt::format("less than {}: ranks that spin use it up and then stand still for the rest of a period; "
                    "Waiting::kAuto sees affinity, not quotas",
                    *limits.num_cores < place.num_ranks_of_host
                        ? fmt::format("the {} rank{} here", place.num_ranks_of_host, place.num_ranks_of_host == 1 ? "" : "s")
                        : fmt::format("the {} cores of the affinity", cores.size())),
        fmt::format("raise the quota (docker --cpus, Kubernetes limits.cpu; it stands in {}), or set "
                    "GroupOptions::waiting = Waiting::kYield",
                    limits.cores_file));
  }
  return findings.take();
}

}  // namespace tokenyard::cli
