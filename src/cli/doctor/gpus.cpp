// GPUs, their driver, and whether they reach each other's memory.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <sstream>
#include <vector>

#include "cli/doctor/cuda_driver.hpp"
#include "cli/doctor/handles.hpp"
#include "cli/doctor/probe_apart.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/doctor/system_files.hpp"
#include "cli/gpu_part.hpp"
#include "cli/host_facts.hpp"
#include "cli/table.hpp"
#include "memory/handle_offers.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeout{20'000};  // a driver without persistence mode wakes its GPUs one after the other
constexpr const char* kNoGpuRanks = "ranks cannot run on GPUs here";

// The module that the kernel has loaded; empty where there is none.
std::string kernel_module_version() { return read_line("/sys/module/nvidia/version"); }

std::string describe(const Gpu& gpu) {
  return fmt::format("{}, {}, {} SMs, compute capability {}.{}", gpu.name,
                     human_bytes(static_cast<std::int64_t>(gpu.memory_bytes)), gpu.num_multiprocessors, gpu.major, gpu.minor);
}

std::string describe(const std::vector<Gpu>& gpus) {
  std::vector<std::pair<std::string, int>> kinds;
  for (const Gpu& gpu : gpus) {
    const std::string kind = describe(gpu);
    if (kinds.empty() || kinds.back().first != kind) kinds.emplace_back(kind, 0);
    ++kinds.back().second;
  }
  std::string text;
  for (const auto& [kind, number] : kinds) text += fmt::format("{}{} x {}", text.empty() ? "" : "; ", number, kind);
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) text += fmt::format("; CUDA_VISIBLE_DEVICES={}", visible);
  return text;
}

void judge_peer_access(SectionFindings& findings, CudaDriver& driver, int num_gpus) {
  if (num_gpus < 2) {
    findings.not_applicable("peer access", "one GPU");
    return;
  }
  std::string cut_off;
  int num_cut_off = 0;
  for (int gpu = 0; gpu < num_gpus; ++gpu) {
    for (int peer = 0; peer < num_gpus; ++peer) {
      bool can = true;
      if (gpu != peer) driver.can_access(gpu, peer, can);
      if (can) continue;
      if (++num_cut_off <= 4) cut_off += fmt::format("{}{} to {}", cut_off.empty() ? "" : ", ", gpu, peer);
    }
  }
  const int num_pairs = num_gpus * (num_gpus - 1);
  if (num_cut_off == 0) {
    findings.ok("peer access", fmt::format("all {} ordered pairs", num_pairs));
  } else {
    findings.warning(
        "peer access",
        fmt::format("none from {}{}: {} of {} ordered pairs", cut_off, num_cut_off > 4 ? " and others" : "", num_cut_off,
                    num_pairs),
        "these GPUs cannot store into each other's memory",
        "compare with nvidia-smi topo -p2p r; without NVLink: IOMMU and PCIe ACS off on the host, and GPUs under one "
        "PCIe root; in a virtual machine the hypervisor decides");
  }
}

// Through the library, which has the last word on what it can use.
void judge_handles(SectionFindings& findings, int num_gpus) {
  if (!gpu_part().is_built) return;
  try {
    std::vector<HandleOffers> by_gpu;
    for (int gpu = 0; gpu < num_gpus; ++gpu) by_gpu.push_back(offers_of(handle_capabilities(gpu)));
    report_handles(findings, by_gpu);
  } catch (const Error& error) {
    findings.warning("handles", error.what(), kNoGpuRanks,
                     fmt::format("this build needs a driver {}", gpu_part().minimum_driver));
  }
}

Findings ask_driver() {
  SectionFindings findings(Section::kGpus);
  const int num_nodes = read_host_facts().num_gpu_nodes;
  const std::string module = kernel_module_version();
  std::string problem;
  const std::unique_ptr<CudaDriver> driver = CudaDriver::load(problem);
  if (!driver && num_nodes == 0 && module.empty()) {
    findings.not_applicable("driver", "no NVIDIA driver: GPU ranks are not possible here");
    return findings.take();
  }
  if (!driver) {
    findings.warning(
        "driver", fmt::format("{} GPU device node{}, but {}", num_nodes, num_nodes == 1 ? "" : "s", problem), kNoGpuRanks,
        "in a container: docker --gpus all (nvidia-container-toolkit) with NVIDIA_DRIVER_CAPABILITIES=compute,utility; "
        "otherwise the package of the driver's libraries");
    return findings.take();
  }
  const int version = driver->cuda_version();
  const std::string value = fmt::format("{} in the kernel, library for CUDA {}.{}", module.empty() ? "unknown" : module,
                                        version / 1000, version % 1000 / 10);
  if (problem = driver->initialize(); !problem.empty()) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (num_nodes == 0) {
      findings.not_applicable("driver", fmt::format("no GPU is visible ({})", problem));
    } else if (visible != nullptr) {
      findings.warning(
          "driver", fmt::format("{}: {}", value, problem), kNoGpuRanks,
          fmt::format("CUDA_VISIBLE_DEVICES='{}' may hide the GPUs: unset it, and see whether they come back", visible));
    } else {
      findings.warning(
          "driver", fmt::format("{}: {}", value, problem), kNoGpuRanks,
          "nvidia-smi and dmesg say more; after an update of the driver, load the new module or restart the host; in "
          "a container, its libraries must be of the host's driver");
    }
    return findings.take();
  }
  findings.ok("driver", value);
  std::vector<Gpu> gpus;
  if (problem = driver->list_gpus(gpus); !problem.empty()) {
    findings.warning("GPUs", problem, kNoGpuRanks, "nvidia-smi -q and dmesg | grep -i xid say more");
    return findings.take();
  }
  findings.ok("GPUs", describe(gpus), gpu_part().is_built ? "ranks can run on them" : "not used: this build has no GPU part");
  judge_peer_access(findings, *driver, static_cast<int>(gpus.size()));
  if (!gpus.empty()) judge_handles(findings, static_cast<int>(gpus.size()));
  return findings.take();
}

}  // namespace

Findings probe_gpus() {
  return probe_apart(ask_driver, kTimeout, [](const std::string& loss) {
    SectionFindings findings(Section::kGpus);
    findings.warning("driver", loss, kNoGpuRanks,
                     "nvidia-smi and dmesg | grep -i -e nvrm -e xid say more; a GPU may need a reset");
    return findings.take();
  });
}

}  // namespace tokenyard::cli
