// The ranks that a command runs on: its own, or those that somebody else has started.
#pragma once

#include <optional>
#include <string>

#include "cli/launcher.hpp"
#include "cli/options.hpp"

namespace tokenyard::cli {

struct RankSource {
  Launch launch;  // num_ranks counts in either case
  // Set where this process is itself one rank of several, which a launcher has started.
  std::optional<TcpRendezvous> started;
  std::string launcher;  // whose variables say so: "torchrun", "OpenMPI", "Slurm"; otherwise empty

  // "4 processes", or how they came about.
  std::string description() const;
};

// Decides by the environment: where a launcher's variables are set, this process is one rank. Throws UsageError where the
// options contradict the environment, and Error where variables are missing or malformed.
RankSource choose_ranks(const RankOptions& options, int default_num_ranks, RankKind default_kind = RankKind::kProcesses);

// Runs `body` on the ranks and returns the program's exit code. A process that is itself a rank first writes what it inferred
// to standard error.
int start_ranks(const RankSource& source, const RankBody& body);

}  // namespace tokenyard::cli
