#include "exchange/launcher.hpp"

#include <fmt/core.h>

#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/fail.hpp"
#include "exchange/environment_variable.hpp"
#include "exchange/slurm_hosts.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {
namespace {

constexpr const char* kByHand =
    "Start the ranks with torchrun, mpirun or srun, or set the variables yourself; for the first of two ranks: RANK=0 "
    "WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=10.0.0.1 MASTER_PORT=29500";
constexpr const char* kOpenMpiAdvice = "OpenMPI's mpirun sets it: was it changed since? RANK and WORLD_SIZE override it";
constexpr const char* kSlurmAdvice = "Slurm's srun sets it: was it changed since? RANK and WORLD_SIZE override it";

constexpr std::uint64_t kMaxPort = 65535;
constexpr std::uint64_t kFirstDerivedPort = 20000;
constexpr std::uint64_t kNumDerivedPorts = 12000;
constexpr std::uint64_t kPortsBetweenSteps = 997;
constexpr std::uint16_t kDefaultPort = 29500;
constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

constexpr Launcher kTorchrun{Launcher::Kind::kTorchrun, "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", kByHand};
constexpr Launcher kOpenMpi{Launcher::Kind::kOpenMpi,     "OpenMPI",     "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK", kOpenMpiAdvice};

// Inside a step SLURM_NTASKS may still be the whole job's number.
Launcher slurm() {
  const char* num_ranks = is_set("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  return {Launcher::Kind::kSlurm, "Slurm", "SLURM_PROCID", num_ranks, "SLURM_LOCALID", kSlurmAdvice};
}

bool is_started_by(const Launcher& launcher) { return is_set(launcher.rank_variable) || is_set(launcher.num_ranks_variable); }

// Processes that srun started. Batch scripts have SLURM_PROCID too, always 0, and start ranks in their own ways.
bool is_in_slurm_step() { return is_set("SLURM_STEP_NODELIST") && is_set("SLURM_PROCID"); }

struct Standing {
  std::uint64_t rank;
  std::uint64_t num_ranks;
};

Standing standing_of(const Launcher& launcher) {
  const std::uint64_t num_ranks = number_of(launcher.num_ranks_variable, 1, kMaxRanks, launcher.advice);
  return {number_of(launcher.rank_variable, 0, num_ranks - 1, launcher.advice), num_ranks};
}

// An outer launcher may have started one process per host, and an inner one several ranks in each; but an inner one that knows
// of fewer ranks, or of another order, is a leftover in the environment.
void check_against(const Launcher& inner, const Launcher& outer) {
  const Standing ours = standing_of(inner);
  const Standing theirs = standing_of(outer);
  if (ours.num_ranks > theirs.num_ranks || (ours.num_ranks == theirs.num_ranks && ours.rank == theirs.rank)) return;
  fail_argument("{}={} and {}={} contradict {}={} and {}={}, which {} set: unset {} and {}, or give them the same values",
                inner.rank_variable, ours.rank, inner.num_ranks_variable, ours.num_ranks, outer.rank_variable, theirs.rank,
                outer.num_ranks_variable, theirs.num_ranks, outer.name, inner.rank_variable, inner.num_ranks_variable);
}

std::optional<Address> local_address_of_openmpi() {
  const Launcher& launcher = kOpenMpi;
  const Standing standing = standing_of(launcher);
  const std::uint64_t num_local = number_of("OMPI_COMM_WORLD_LOCAL_SIZE", 1, standing.num_ranks, launcher.advice);
  number_of(launcher.local_rank_variable, 0, num_local - 1, launcher.advice);
  if (num_local != standing.num_ranks) return std::nullopt;
  return Address{"127.0.0.1", "OMPI_COMM_WORLD_LOCAL_SIZE: all ranks are on one host"};
}

Address address_of_openmpi() {
  if (std::optional<Address> local = local_address_of_openmpi()) return *std::move(local);
  fail_argument(
      "OpenMPI started ranks on several hosts, and MASTER_ADDR is not set: mpirun -x MASTER_ADDR=HOST says where rank 0 is, "
      "the "
      "first host of mpirun's list; -x TOKENYARD_SECRET hands the secret on that the ranks then need");
}

Address address_of_slurm() {
  const char* variable = is_set("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
  const std::string list = text_of(variable, "Slurm sets it; MASTER_ADDR, the first host, overrides it");
  const std::optional<SlurmHosts> hosts = parse_slurm_hosts(list);
  if (!hosts) fail_argument("{}='{}': this is no list of hosts; MASTER_ADDR, the first host, overrides it", variable, list);
  if (hosts->is_alone) return {"127.0.0.1", fmt::format("{}: all ranks are on one host", variable)};
  return {hosts->first, fmt::format("the first of {}", variable)};
}

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char character : text) hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3;
  return hash;
}

Port derived_port(std::uint64_t number, std::string origin) {
  return {static_cast<std::uint16_t>(kFirstDerivedPort + number % kNumDerivedPorts), std::move(origin)};
}

Port port_of_openmpi() {
  if (!is_set("PMIX_NAMESPACE")) return {kDefaultPort, "the default"};
  return derived_port(fnv1a(text_of("PMIX_NAMESPACE", kOpenMpiAdvice)), "from PMIX_NAMESPACE");
}

Port port_of_slurm() {
  const char* advice = "Slurm sets it; TOKENYARD_PORT, the same for all ranks, overrides it";
  const std::uint64_t job = number_of("SLURM_JOB_ID", 0, kNoLimit, advice);
  if (!is_set("SLURM_STEP_ID")) return derived_port(job, "from SLURM_JOB_ID");
  const std::uint64_t step = number_of("SLURM_STEP_ID", 0, kNoLimit, advice);
  // Each remainder first, so that nothing wraps around.
  return derived_port(job % kNumDerivedPorts + kPortsBetweenSteps * (step % kNumDerivedPorts),
                      "from SLURM_JOB_ID and SLURM_STEP_ID");
}

Port port_of_master() {
  const std::uint64_t port = number_of("MASTER_PORT", 1, kMaxPort, kByHand);
  if (!is_true("TORCHELASTIC_USE_AGENT_STORE")) return {static_cast<std::uint16_t>(port), "MASTER_PORT"};
  if (port == kMaxPort) {
    fail_argument(
        "MASTER_PORT={} is taken by torchrun's own store (TORCHELASTIC_USE_AGENT_STORE), and there is no next port: "
        "set TOKENYARD_PORT, 29501 say, for all ranks",
        port);
  }
  return {static_cast<std::uint16_t>(port + 1),
          fmt::format("MASTER_PORT={} plus 1: torchrun's own store has that one, TORCHELASTIC_USE_AGENT_STORE says", port)};
}

}  // namespace

Launcher find_launcher() {
  if (is_started_by(kTorchrun)) {
    // torchrun under mpirun or srun numbers its ranks as it likes.
    const bool is_nested = is_set("TORCHELASTIC_RUN_ID");
    if (!is_nested && is_started_by(kOpenMpi)) {
      check_against(kTorchrun, kOpenMpi);
    } else if (!is_nested && is_in_slurm_step()) {
      check_against(kTorchrun, slurm());
    }
    return kTorchrun;
  }
  if (is_started_by(kOpenMpi)) return kOpenMpi;
  if (is_set("SLURM_PROCID")) return slurm();
  text_of(kTorchrun.rank_variable, kTorchrun.advice);  // is not set, and says so
  return kTorchrun;
}

const char* name_of_launcher() {
  for (const Launcher* launcher : {&kTorchrun, &kOpenMpi}) {
    if (is_started_by(*launcher)) return launcher->name;
  }
  return is_in_slurm_step() ? slurm().name : nullptr;
}

Address address_of_rank_zero(const Launcher& launcher) {
  if (is_set("MASTER_ADDR")) return {text_of("MASTER_ADDR", kByHand), "MASTER_ADDR"};
  switch (launcher.kind) {
    case Launcher::Kind::kTorchrun: break;
    case Launcher::Kind::kOpenMpi: return address_of_openmpi();
    case Launcher::Kind::kSlurm: return address_of_slurm();
  }
  return {text_of("MASTER_ADDR", kByHand), "MASTER_ADDR"};
}

Port port_of_rank_zero(const Launcher& launcher) {
  if (is_set("TOKENYARD_PORT")) {
    return {static_cast<std::uint16_t>(number_of("TOKENYARD_PORT", 1, kMaxPort, kByHand)), "TOKENYARD_PORT"};
  }
  if (is_set("MASTER_PORT") || launcher.kind == Launcher::Kind::kTorchrun) return port_of_master();
  return launcher.kind == Launcher::Kind::kOpenMpi ? port_of_openmpi() : port_of_slurm();
}

}  // namespace tokenyard
