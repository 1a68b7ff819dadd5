// What started this process, told by the environment variables that it set.
#pragma once

#include <cstdint>
#include <string>

namespace tokenyard {

// A launcher tells each process its place by three variables.
struct Launcher {
  enum class Kind : std::uint8_t { kTorchrun, kOpenMpi, kSlurm };

  Kind kind;
  const char* name;  // as people call it
  const char* rank_variable;
  const char* num_ranks_variable;
  const char* local_rank_variable;
  const char* advice;  // how errors about these variables end
};

// The launcher nearest to this process: torchrun's variables, which people also set by hand, come before OpenMPI's, and
// those before Slurm's, because mpirun and torchrun run inside of Slurm's jobs and not the other way. Throws
// Error(kInvalidArgument) if there is none, or if two contradict each other.
Launcher find_launcher();

// The name of the launcher whose variables are there, if this process is a rank of it; nullptr if there is none.
const char* name_of_launcher();

struct Address {
  std::string text;
  std::string origin;  // for people
};

struct Port {
  std::uint16_t number;
  std::string origin;
};

// Where rank 0 is: MASTER_ADDR with every launcher. Otherwise loopback if all ranks are on one host, and the first host of
// Slurm's list; these throw Error(kInvalidArgument) that says what to set if neither helps.
Address address_of_rank_zero(const Launcher& launcher);

// TOKENYARD_PORT, or MASTER_PORT (the next port where torchrun's own store has that one), with every launcher. Otherwise one
// from 20000 to 31999, which lie below the ports that systems give to outgoing connections: for Slurm 20000 + (SLURM_JOB_ID +
// 997 SLURM_STEP_ID) mod 12000, for OpenMPI 20000 + FNV-1a(PMIX_NAMESPACE) mod 12000.
Port port_of_rank_zero(const Launcher& launcher);

}  // namespace tokenyard
