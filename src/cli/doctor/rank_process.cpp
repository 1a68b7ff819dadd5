#include "cli/doctor/rank_process.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <sstream>

#include "cli/doctor/system_files.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

// PF_EXITING of Linux: the peers of a process that ends see its connections close while its state is still 'R'.
constexpr unsigned kIsExiting = 0x4;

constexpr const char* kFollowText = "follow the text; docs/troubleshooting.md explains it";

bool is_of_this_host(const RankProcess& process) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return process.process > 0 && process.host == host.data();
}

struct Diagnosis {
  std::string what;
  std::string cure;
};

Diagnosis diagnose_death(const std::string& name) {
  return {name + " has died",
          "its own output says why; where it says nothing: dmesg | grep -i 'killed process' (out of memory), the job's limits, "
          "coredumpctl"};
}

Diagnosis diagnose(const Failure& failure, const std::string& name, const RankProcess& process) {
  const bool is_visible = is_of_this_host(process);
  const char state = is_visible ? state_of(process.process) : '\0';
  if (is_visible && (state == '\0' || state == 'Z')) return diagnose_death(name);
  if (failure.code == ErrorCode::kPeerLost) {
    return {name + (is_visible ? " has given up" : " has died or given up"),
            "its own lines on this page or its output say why"};
  }
  const std::string look = process.process > 0 ? fmt::format("{}", process.process) : std::string("PROCESS");
  if (state == 'T' || state == 't') {
    return {name + " is stopped",
            fmt::format("kill -CONT {}, or leave the debugger that holds it; a frozen container or job must be thawed", look)};
  }
  if (state == 'D') {
    return {name + " hangs in the kernel",
            fmt::format("cat /proc/{}/stack as root shows where: a dead network file system, a device", look)};
  }
  return {
      name + " is late or stuck",
      fmt::format("look at it on its host: ps -o pid,stat,wchan,psr,pcpu -p {}, and gdb -p {} -batch -ex bt; if it is merely "
                  "slow, --timeout SECONDS",
                  look, look)};
}

}  // namespace

std::string name_of(int rank, const RankProcess& process) {
  if (process.process == 0) return fmt::format("rank {}", rank);
  return fmt::format("rank {} (process {} on {})", rank, process.process, process.host);
}

char state_of(pid_t process) {
  // The name in parentheses may hold anything, so what follows its end counts: the fields from the third on.
  const std::string line = read_line(fmt::format("/proc/{}/stat", process));
  const std::size_t end = line.rfind(')');
  if (end == std::string::npos) return '\0';
  std::istringstream fields(line.substr(end + 1));
  char state = '\0';
  std::string skipped;
  unsigned flags = 0;  // the ninth
  fields >> state >> skipped >> skipped >> skipped >> skipped >> skipped >> flags;
  return (flags & kIsExiting) != 0 ? 'Z' : state;
}

void report_error(SectionFindings& findings, const std::string& name, const std::exception& error, int rank,
                  const std::vector<RankProcess>& processes) {
  const auto* known = dynamic_cast<const Error*>(&error);
  if (known == nullptr) {
    findings.failure(name, "error", error.what(), kFollowText);
    return;
  }
  const Failure& failure = known->failure();
  // Who has only heard of a failure has less to tell than who noticed it.
  const bool is_hearsay = failure.culprit >= 0 && failure.reporter >= 0 && failure.reporter != rank;
  const std::string why =
      is_hearsay ? fmt::format("{} in {}", to_string(failure.code), to_string(failure.phase)) : std::string(error.what());
  if (failure.culprit >= 0 && (known->code() == ErrorCode::kTimeout || known->code() == ErrorCode::kPeerLost)) {
    const auto place = static_cast<std::size_t>(failure.culprit);
    const RankProcess process = place < processes.size() ? processes[place] : RankProcess{};
    const Diagnosis diagnosis = diagnose(failure, name_of(failure.culprit, process), process);
    findings.failure(name, diagnosis.what, why, diagnosis.cure);
    return;
  }
  findings.failure(name, to_string(known->code()), why,
                   known->code() == ErrorCode::kSystem
                       ? "the lines about memory, limits and shared memory above say what is short"
                       : kFollowText);
}

}  // namespace tokenyard::cli
