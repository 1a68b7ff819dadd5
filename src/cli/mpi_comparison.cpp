#include "cli/mpi_comparison.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/fail.hpp"
#include "cli/json.hpp"
#include "cli/subprocess.hpp"

namespace tokenyard::cli {
namespace {

constexpr const char* kProgramName = "tokenyard-mpi-baseline";
constexpr const char* kInstallAdvice = "On Debian and Ubuntu install the packages libopenmpi-dev and openmpi-bin";
constexpr std::chrono::seconds kDeadline{300};

bool is_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (access((std::filesystem::path(folder) / program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string last_lines(const std::string& text) { return text.size() <= 2000 ? text : "..." + text.substr(text.size() - 2000); }

}  // namespace

MpiBaseline find_mpi_baseline() {
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  for (const auto& candidate : {folder / kProgramName, folder.parent_path() / "libexec" / "tokenyard" / kProgramName}) {
    if (access(candidate.c_str(), X_OK) != 0) continue;
    if (!is_in_path("mpirun")) fail(ErrorCode::kUnsupported, "--against mpi: there is no mpirun in PATH. {}", kInstallAdvice);
    return {.program = candidate.string()};
  }
  fail(ErrorCode::kUnsupported, "--against mpi: {} was not built, because there was no MPI. {}, then configure and build again",
       kProgramName, kInstallAdvice);
}

Record run_mpi_baseline(const MpiBaseline& baseline, const BenchSetup& setup) {
  std::vector<std::string> arguments{"mpirun"};
  if (geteuid() == 0) arguments.emplace_back("--allow-run-as-root");
  const BenchOptions& options = setup.options;
  for (const std::string& argument : {std::string("--oversubscribe"),
                                      std::string("--mca"),
                                      std::string("pml"),
                                      std::string("ob1"),
                                      std::string("--mca"),
                                      std::string("btl"),
                                      std::string("self,vader"),
                                      std::string("-n"),
                                      std::to_string(setup.num_ranks),
                                      baseline.program,
                                      std::to_string(setup.num_tokens),
                                      std::to_string(setup.dispatch_row_bytes),
                                      std::to_string(options.num_experts),
                                      std::to_string(options.top_k),
                                      options.routing,
                                      std::to_string(options.seed),
                                      std::to_string(setup.num_iterations),
                                      std::to_string(setup.num_warmups),
                                      std::string(options.check ? "check" : "trust"),
                                      std::string(setup.bound ? "bound" : "free")}) {
    arguments.push_back(argument);
  }
  const ProgramResult result = run_program(arguments, kDeadline);
  if (result.timed_out) {
    fail(ErrorCode::kTimeout, "--against mpi: mpirun did not end within {} s; it said: {}", kDeadline.count(),
         last_lines(result.errors));
  }
  if (result.exit_code != 0) {
    fail(ErrorCode::kSystem, "--against mpi: mpirun ended with exit code {}; it said: {}", result.exit_code,
         last_lines(result.errors));
  }
  return parse_flat_json(result.output);
}

}  // namespace tokenyard::cli
