#include "tests/cli/program.hpp"

namespace tokenyard::cli {

namespace {

// `env` with all that launchers and people may have set taken away.
std::vector<std::string> clean_environment() {
  std::vector<std::string> command{"env"};
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TOKENYARD_PORT", "TOKENYARD_SECRET",
        "TOKENYARD_SECRET_FILE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NODELIST"}) {
    command.emplace_back("-u");
    command.emplace_back(name);
  }
  return command;
}

constexpr std::chrono::seconds kTimeout{120};  // twice what the self-test of doctor may take

}  // namespace

ProgramResult run_tokenyard(std::vector<std::string> arguments, const std::vector<std::string>& environment) {
  std::vector<std::string> command = clean_environment();
  command.insert(command.end(), environment.begin(), environment.end());
  command.emplace_back(TOKENYARD_PROGRAM);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, kTimeout);
}

ProgramResult run_script(const std::string& script) {
  std::vector<std::string> command = clean_environment();
  command.insert(command.end(), {"sh", "-c", script});
  return run_program(command, kTimeout);
}

std::string sample_text() { return TOKENYARD_TEXT; }

}  // namespace tokenyard::cli
