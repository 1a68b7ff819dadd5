#include <fmt/core.h>

#include <cstdio>
#include <optional>
#include <utility>

#include "cli/bench_output.hpp"
#include "cli/gpu_links.hpp"
#include "cli/gpu_part.hpp"
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

std::string gpu_remark(const GpuPart& gpus) {
  if (!gpus.is_built) return "this build has no GPU part";
  return fmt::format("kernels for {}, CUDA {}; needs a driver {}", gpus.architectures, gpus.toolkit, gpus.minimum_driver);
}

std::vector<Record> list_features(bool has_mpi, const GpuPart& gpus) {
  return {
      {{"feature", "ranks as threads of one process"}, {"works", true}, {"remark", ""}},
      {{"feature", "ranks as processes of one host"}, {"works", true}, {"remark", "memory mapped by the peers"}},
      {{"feature", "ranks on several hosts"}, {"works", false}, {"remark", "no network transport in this build"}},
      {{"feature", "throughput mode"}, {"works", true}, {"remark", gpus.is_built ? "host and GPU kernels" : "host kernels"}},
      {{"feature", "latency mode"}, {"works", true}, {"remark", "host kernels"}},
      {{"feature", "C interface"},
       {"works", true},
       {"remark", fmt::format("libtokenyard.so.{}, ABI {}.{}", TY_ABI_MAJOR, TY_ABI_MAJOR, TY_ABI_MINOR)}},
      {{"feature", "GPUs"}, {"works", gpus.is_built}, {"remark", gpu_remark(gpus)}},
      {{"feature", "bench --against mpi"},
       {"works", has_mpi},
       {"remark", has_mpi ? "" : "needs libopenmpi-dev and openmpi-bin when Tokenyard is built"}}};
}

std::string gpu_text(int num_gpu_nodes, const GpuPart& gpus) {
  if (num_gpu_nodes == 0) {
    return fmt::format("no device node of an NVIDIA GPU{}", gpus.is_built ? "" : "; this build has no GPU part anyway");
  }
  return fmt::format("{} device node{} of NVIDIA GPUs{}", num_gpu_nodes, num_gpu_nodes == 1 ? "" : "s",
                     gpus.is_built ? "; tokenyard info --measure says what they do" : ", not used: this build has no GPU part");
}

std::string links_text(const GpuLinks& links) {
  std::string text = fmt::format(
      "\n{}\n{}\n"
      "  handle              what passes the GPU's memory to ranks in other processes: the first kind that works\n",
      bench_table(links.gpus), bench_table(links.handles));
  if (links.pairs.empty()) return text + "\n  one GPU: there is no link to measure\n";
  text += fmt::format("\n{}", bench_table(links.pairs));
  text +=
      "\n"
      "  reaches             kernels of `from` load and store the memory of `to`\n"
      "  atomics             atomic operations of the two GPUs on one word exclude each other\n"
      "  gb_per_s            copy engines, 256 MiB at a time, in 10^9 bytes per second and direction\n"
      "  round_trip_us       microseconds of a word from a kernel there to a kernel here and back\n"
      "  launch_us           microseconds of a kernel that does nothing, one behind the other in a stream, or in a graph\n";
  return text;
}

void print_text(const HostFacts& facts, const std::vector<Record>& features, const GpuPart& gpus) {
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
  fmt::print("  GPUs       {}\n", gpu_text(facts.num_gpu_nodes, gpus));
}

void print_json(const HostFacts& facts, const std::vector<Record>& features, const GpuPart& gpus, const GpuLinks* links) {
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
                      {"gpu_part", gpus.is_built},
                      {"gpu_architectures", gpus.is_built ? Value(gpus.architectures) : Value()},
                      {"cuda_toolkit", gpus.is_built ? Value(gpus.toolkit) : Value()},
                      {"minimum_driver", gpus.is_built ? Value(gpus.minimum_driver) : Value()}};
  std::vector<std::pair<std::string, std::vector<Record>>> lists{{"features", features}};
  if (links != nullptr) {
    lists.emplace_back("gpus", links->gpus);
    lists.emplace_back("gpu_handles", links->handles);
    lists.emplace_back("gpu_pairs", links->pairs);
  }
  std::fputs(to_json(header, lists).c_str(), stdout);
}

}  // namespace

int run_info(const InfoOptions& options) {
  const GpuPart gpus = gpu_part();
  const HostFacts facts = read_host_facts();
  const std::vector<Record> features = list_features(has_mpi_baseline(), gpus);
  std::optional<GpuLinks> links;
  if (options.measure) links = measure_gpu_links();
  if (options.json) {
    print_json(facts, features, gpus, links ? &*links : nullptr);
  } else {
    print_text(facts, features, gpus);
    if (links) print(links_text(*links));
  }
  return 0;
}

}  // namespace tokenyard::cli
