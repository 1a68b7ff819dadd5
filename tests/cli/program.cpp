#include "tests/cli/program.hpp"

namespace tokenyard::cli {

ProgramResult run_tokenyard(std::vector<std::string> arguments, const std::vector<std::string>& environment) {
  std::vector<std::string> command{"env"};
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TOKENYARD_PORT", "TOKENYARD_SECRET",
        "TOKENYARD_SECRET_FILE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NODELIST"}) {
    command.emplace_back("-u");
    command.emplace_back(name);
  }
  command.insert(command.end(), environment.begin(), environment.end());
  command.emplace_back(TOKENYARD_PROGRAM);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, std::chrono::seconds(60));
}

std::string sample_text() { return TOKENYARD_TEXT; }

}  // namespace tokenyard::cli
