// Limits of this process (ulimit).
#include <fmt/core.h>
#include <sys/resource.h>

#include "cli/doctor/probes.hpp"
#include "cli/doctor/system_files.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {
namespace {

// What rank 0 of the self-test takes: a socket per peer, a connection per rank, memfds on their way, and a few of its own.
constexpr rlim_t kOwnDescriptors = 12;
constexpr rlim_t kDescriptorsPerRank = 3;
constexpr rlim_t kDescriptorsOfPrograms = 128;  // that a program around Tokenyard has open

std::string limit_text(rlim_t limit, bool is_bytes) {
  if (limit == RLIM_INFINITY) return "unlimited";
  return is_bytes ? human_bytes(static_cast<std::int64_t>(limit)) : with_commas(static_cast<std::int64_t>(limit));
}

void judge_descriptors(SectionFindings& findings, const RankPlace& place) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t num_needed = kOwnDescriptors + kDescriptorsPerRank * static_cast<rlim_t>(place.num_ranks);
  const std::string value = limit_text(limit.rlim_cur, false);
  const std::string why = fmt::format("{} ranks take about {}", place.num_ranks, num_needed);
  const std::string cure =
      limit.rlim_max > num_needed
          ? fmt::format("ulimit -n {}", limit.rlim_max == RLIM_INFINITY ? 65536 : static_cast<std::int64_t>(limit.rlim_max))
          : fmt::format(
                "raise the hard limit, which is {}: nofile in /etc/security/limits.conf, LimitNOFILE= of the service, "
                "docker --ulimit nofile=65536",
                limit_text(limit.rlim_max, false));
  if (limit.rlim_cur < num_needed) {
    findings.failure("open files", value, why, cure);
  } else if (limit.rlim_cur < num_needed + kDescriptorsOfPrograms) {
    findings.warning("open files", value, why + ", and the program around them needs some too", cure);
  } else {
    findings.ok("open files", value);
  }
}

void judge_locked_memory(SectionFindings& findings) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string value = limit_text(limit.rlim_cur, true);
  const bool has_rdma = !list_folder("/sys/class/infiniband").empty();
  if (limit.rlim_cur == RLIM_INFINITY) {
    findings.ok("locked memory", value);
  } else if (!has_rdma) {
    findings.ok("locked memory", value, "only RDMA network cards need more, and none is here");
  } else {
    findings.warning(
        "locked memory", value, "RDMA network cards lock the windows that they are given",
        "ulimit -l unlimited; memlock in /etc/security/limits.conf, LimitMEMLOCK=infinity of the service (slurmd), "
        "docker --ulimit memlock=-1");
  }
}

void judge_address_space(SectionFindings& findings) {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  const std::string value = limit_text(limit.rlim_cur, true);
  if (limit.rlim_cur == RLIM_INFINITY) {
    findings.ok("address space", value);
  } else {
    findings.warning("address space", value, "each rank maps the windows of all ranks of its host, at their full bounds",
                     "ulimit -v unlimited");
  }
}

}  // namespace

Findings probe_limits(const RankPlace& place) {
  SectionFindings findings(Section::kMemory);
  judge_locked_memory(findings);
  judge_address_space(findings);
  judge_descriptors(findings, place);
  return findings.take();
}

}  // namespace tokenyard::cli
