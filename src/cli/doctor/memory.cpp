// Memory of the host, and of the control group that this process is in.
#include <fmt/core.h>

#include "cli/doctor/cgroup.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/doctor/system_files.hpp"
#include "cli/host_facts.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::int64_t kLittle = std::int64_t{512} << 20;  // a plan of a few thousand tokens takes about as much per rank

// The word in brackets of "always [madvise] never".
std::string chosen_word(const std::string& path) {
  const std::string line = read_line(path);
  const std::size_t first = line.find('[');
  const std::size_t last = line.find(']', first);
  return last == std::string::npos ? "unknown" : line.substr(first + 1, last - first - 1);
}

}  // namespace

Findings probe_memory() {
  SectionFindings findings(Section::kMemory);
  const HostFacts facts = read_host_facts();
  const std::string value =
      fmt::format("{} available of {}", human_bytes(facts.available_memory_bytes), human_bytes(facts.memory_bytes));
  constexpr const char* kLess = "end other programs, or make smaller plans: tokenyard plan shows what one takes";
  if (facts.available_memory_bytes < kLittle) {
    findings.warning("memory", value, fmt::format("less than {}", human_bytes(kLittle)), kLess);
  } else {
    findings.ok("memory", value);
  }

  const CgroupLimits limits = read_cgroup_limits();
  if (!limits.memory_bytes || *limits.memory_bytes >= facts.memory_bytes) {
    findings.not_applicable("memory limit", "no control group sets one below the host's memory");
  } else {
    const std::int64_t num_left = *limits.memory_bytes - limits.used_memory_bytes;
    const std::string limit_value = fmt::format("{} left of {}", human_bytes(num_left), human_bytes(*limits.memory_bytes));
    if (num_left < kLittle) {
      findings.warning("memory limit", limit_value, "windows count as shared memory of this control group",
                       fmt::format("raise the limit of the container or the job; it stands in {}", limits.memory_file));
    } else {
      findings.ok("memory limit", limit_value);
    }
  }

  const std::int64_t overcommit = read_number("/proc/sys/vm/overcommit_memory").value_or(0);
  const std::string pages = fmt::format("huge pages {}, for shared memory {}; vm.overcommit_memory={}",
                                        chosen_word("/sys/kernel/mm/transparent_hugepage/enabled"),
                                        chosen_word("/sys/kernel/mm/transparent_hugepage/shmem_enabled"), overcommit);
  if (overcommit == 2) {
    findings.warning("pages", pages, "every bound of a plan counts as used from the start",
                     "sysctl vm.overcommit_memory=0, or smaller bounds: max_tokens, recv_capacity");
  } else {
    findings.ok("pages", pages);
  }
  return findings.take();
}

}  // namespace tokenyard::cli
