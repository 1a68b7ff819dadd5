// The same exchange done with MPI, as a program of its own: what one would write without Tokenyard.
#pragma once

#include <string>

#include "cli/bench_setup.hpp"
#include "cli/record.hpp"

namespace tokenyard::cli {

struct MpiBaseline {
  std::string program;  // path of tokenyard-mpi-baseline
};

// Looks for the program next to this one, and where an installation has it. Throws Error(kUnsupported), which says what to
// install, where it or mpirun is missing.
MpiBaseline find_mpi_baseline();

// Runs it with the shape and routing of the benchmark and returns its line. Blocking, with a deadline. Throws Error(kSystem)
// with what the program said where it fails.
Record run_mpi_baseline(const MpiBaseline& baseline, const BenchSetup& setup);

}  // namespace tokenyard::cli
