// What this host has, as far as the operating system tells.
#pragma once

#include <cstdint>
#include <string>

namespace tokenyard::cli {

struct HostFacts {
  std::string processor;      // model name, or "unknown"
  std::string vector_units;   // instruction sets for vectors that the processor has, "unknown" on processors that do not tell
  int num_cores = 0;          // logical cores of the host
  int num_allowed_cores = 0;  // that this process may run on (its affinity)
  std::int64_t memory_bytes = 0;
  std::int64_t available_memory_bytes = 0;
  std::int64_t lockable_bytes = -1;  // ulimit -l; -1: no limit
  int num_gpu_nodes = 0;             // device nodes of NVIDIA GPUs
};

HostFacts read_host_facts();

}  // namespace tokenyard::cli
