// The secret that ranks of several hosts share, and who else could read it.
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "cli/doctor/probes.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

constexpr const char* kFileVariable = "TOKENYARD_SECRET_FILE";
constexpr const char* kMakeOne =
    "export TOKENYARD_SECRET=$(head -c 32 /dev/urandom | base64), once, the same value on all hosts";

// The command that repairs the file, where its permissions are all that is wrong with it.
std::string command_for(const char* path) {
  struct stat status{};
  if (path == nullptr || stat(path, &status) != 0 || status.st_uid != geteuid()) return {};
  return (status.st_mode & (S_IRWXG | S_IRWXO)) == 0 ? "" : fmt::format("chmod 600 '{}'", path);
}

}  // namespace

Findings probe_secret() {
  SectionFindings findings(Section::kRendezvous);
  const char* path = std::getenv(kFileVariable);
  try {
    const std::string secret = TcpRendezvous::secret_from_environment();
    if (secret.empty()) {
      findings.not_applicable("secret", "none is set; ranks of one host need none");
    } else if (path == nullptr) {
      findings.ok("secret", fmt::format("TOKENYARD_SECRET, {} bytes", secret.size()));
    } else {
      findings.ok("secret", fmt::format("{}='{}', {} bytes, closed to others", kFileVariable, path, secret.size()));
    }
  } catch (const Error& error) {
    const std::string command = command_for(path);
    std::string problem = error.what();
    // The library's error ends with the command, which is the cure here.
    if (!command.empty() && problem.ends_with(": " + command)) problem.resize(problem.size() - command.size() - 2);
    findings.failure("secret", problem, "no rank can meet others with it",
                     command.empty() ? kMakeOne : command + "; if others may have read it, make a new secret");
  }
  return findings.take();
}

}  // namespace tokenyard::cli
