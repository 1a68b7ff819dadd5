// What `tokenyard doctor` looks at before ranks meet. One file per family of probes; none throws, and none that may hang runs
// in this process.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "cli/doctor/finding.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard::cli {

// Who asks, as far as it decides what is enough.
struct RankPlace {
  int num_ranks = 1;          // of the job
  int num_ranks_of_host = 1;  // that this process answers for: those that it starts, or itself
  bool leads_host = true;     // says what is equal for all ranks of its host
};

Findings probe_software();    // of the host
Findings probe_processors();  // of the host
Findings probe_cores(const RankPlace& place);
Findings probe_memory();  // of the host
Findings probe_limits(const RankPlace& place);
Findings probe_sharing();  // of the host
Findings probe_gpus();     // of the host
Findings probe_network();  // of the host

// The secret by itself, whoever needs it.
Findings probe_secret();

// The launcher's variables, and what they say about rank 0's address: its name, its port, whether it takes a secret.
struct LauncherReading {
  std::string launcher;                   // whose variables are there; empty: nobody's
  std::optional<TcpRendezvous> launched;  // what the library read from them
  std::string problem;                    // why it could not
  bool is_secret_wrong = false;           // which is reported by itself, and keeps the library from reading on
  int num_own_ranks = 1;                  // that are started where there is no launcher
};
Findings probe_rendezvous(const LauncherReading& reading);

}  // namespace tokenyard::cli
