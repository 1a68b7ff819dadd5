#include <fmt/core.h>

#include <cstdio>

#include "cli/host_facts.hpp"
#include "cli/json.hpp"
#include "cli/mpi_comparison.hpp"
#include "cli/options.hpp"
#include "cli/table.hpp"
#include "tokenyard.h"
#include "tokenyard/error.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

bool has_mpi_baseline() {
  try {
    find_mpi_baseline();
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<Record> list_features(bool has_mpi) {
  return {{{"feature", "ranks as threads of one process"}, {"works", true}, {"remark", ""}},
          {{"feature", "ranks as processes of one host"}, {"works", true}, {"remark", "memory mapped by the peers"}},
          {{"feature", "ranks on several hosts"}, {"works", false}, {"remark", "no network transport in this build"}},
          {{"feature", "throughput mode"}, {"works", true}, {"remark", "host kernels"}},
          {{"feature", "latency mode"}, {"works", true}, {"remark", "host kernels"}},
          {{"feature", "C interface"},
           {"works", true},
           {"remark", fmt::format("libtokenyard.so.{}, ABI {}.{}", TY_ABI_MAJOR, TY_ABI_MAJOR, TY_ABI_MINOR)}},
          {{"feature", "GPUs"}, {"works", false}, {"remark", "this build has no GPU part"}},
          {{"feature", "bench --against mpi"},
           {"works", has_mpi},
           {"remark", has_mpi ? "" : "needs libopenmpi-dev and openmpi-bin when Tokenyard is built"}}};
}

std::string gpu_text(int num_gpu_nodes) {
  if (num_gpu_nodes == 0) return "no device node of an NVIDIA GPU; this build has no GPU part anyway";
  return fmt::format("{} device node{} of NVIDIA GPUs, not used: this build has no GPU part", num_gpu_nodes,
                     num_gpu_nodes == 1 ? "" : "s");
}

void print_text(const HostFacts& facts, const std::vector<Record>& features) {
  fmt::print("tokenyard {} (wire format {})\n\n", version(), kWireVersion);
  Table table({"feature", "works", ""}, 3);
  for (const Record& feature : features) {
    table.add_row({to_cell(find(feature, "feature")), to_cell(find(feature, "works")), to_cell(find(feature, "remark"))});
  }
  std::fputs(table.to_string().c_str(), stdout);
  fmt::print("\n  processor  {} ({})\n", facts.processor, facts.vector_units);
  fmt::print("  cores      {}, of which this process may use {}\n", facts.num_cores, facts.num_allowed_cores);
  fmt::print("  memory     {}, of which {} are available; ", human_bytes(facts.memory_bytes),
             human_bytes(facts.available_memory_bytes));
  fmt::print("{} may be locked\n", facts.lockable_bytes < 0 ? "all" : human_bytes(facts.lockable_bytes));
  fmt::print("  GPUs       {}\n", gpu_text(facts.num_gpu_nodes));
}

void print_json(const HostFacts& facts, const std::vector<Record>& features) {
  const Record header{{"version", version()},
                      {"wire_version", kWireVersion},
                      {"processor", facts.processor},
                      {"vector_units", facts.vector_units},
                      {"cores", facts.num_cores},
                      {"allowed_cores", facts.num_allowed_cores},
                      {"memory_bytes", facts.memory_bytes},
                      {"available_memory_bytes", facts.available_memory_bytes},
                      {"lockable_bytes", facts.lockable_bytes < 0 ? Value() : Value(facts.lockable_bytes)},
                      {"gpu_device_nodes", facts.num_gpu_nodes},
                      {"gpu_part", false}};
  std::fputs(to_json(header, "features", features).c_str(), stdout);
}

}  // namespace

int run_info(const InfoOptions& options) {
  const HostFacts facts = read_host_facts();
  const std::vector<Record> features = list_features(has_mpi_baseline());
  if (options.json) {
    print_json(facts, features);
  } else {
    print_text(facts, features);
  }
  return 0;
}

}  // namespace tokenyard::cli
