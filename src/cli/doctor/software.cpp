// The library, what built it, and the system under it.
#include <fmt/core.h>
#include <gnu/libc-version.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <string>

#include "cli/doctor/probes.hpp"
#include "cli/doctor/system_files.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

std::string distribution() {
  const std::string key = "PRETTY_NAME=";
  for (const std::string& line : read_lines("/etc/os-release")) {
    if (!line.starts_with(key)) continue;
    std::string name = line.substr(key.size());
    std::erase(name, '"');
    return name;
  }
  return "unknown distribution";
}

std::string container() {
  if (access("/.dockerenv", F_OK) == 0) return ", Docker";
  if (access("/run/.containerenv", F_OK) == 0) return ", Podman";
  return access("/var/run/secrets/kubernetes.io", F_OK) == 0 ? ", Kubernetes" : "";
}

constexpr const char* kCompiler =
#if defined(__clang__)
    "clang ";
#else
    "g++ ";
#endif

constexpr const char* kAssertions =
#if defined(NDEBUG)
    "";
#else
    ", with assertions";
#endif

}  // namespace

Findings probe_software() {
  SectionFindings findings(Section::kSoftware);
  findings.ok("tokenyard", fmt::format("{} (wire format {}), built by {}{}{}", version(), kWireVersion, kCompiler,
#if defined(__clang__)
                                       __clang_version__,
#else
                                       __VERSION__,
#endif
                                       kAssertions));
  utsname names{};
  uname(&names);
  findings.ok("system", fmt::format("{}, {} {} {}, glibc {}{}", distribution(), names.sysname, names.release, names.machine,
                                    gnu_get_libc_version(), container()));
  return findings.take();
}

}  // namespace tokenyard::cli
