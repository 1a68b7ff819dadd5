#include "cli/host_facts.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace tokenyard::cli {
namespace {

// The text behind "name:" in a file of such lines; empty where there is none.
std::string read_field(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return {};
}

std::int64_t read_kibibytes(const std::string& name) {
  std::int64_t amount = 0;
  std::istringstream(read_field("/proc/meminfo", name)) >> amount;
  return amount * 1024;
}

std::string find_vector_units() {
#if defined(__x86_64__)
  std::string units = "SSE2";
  if (__builtin_cpu_supports("sse4.2")) units += " SSE4.2";
  if (__builtin_cpu_supports("avx2")) units += " AVX2";
  if (__builtin_cpu_supports("avx512f")) units += " AVX-512";
  return units;
#elif defined(__aarch64__)
  return "NEON";
#else
  return "unknown";
#endif
}

int count_allowed_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // Fails on hosts with more cores than the set has places: then there is no small number to tell.
  return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed)
                                                              : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

int count_gpu_nodes() {
  int num_nodes = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", ignored)) {
    const std::string name = entry.path().filename();
    const std::string prefix = "nvidia";
    if (!name.starts_with(prefix) || name.size() == prefix.size()) continue;
    const bool is_numbered = std::all_of(name.begin() + static_cast<std::ptrdiff_t>(prefix.size()), name.end(),
                                         [](unsigned char c) { return std::isdigit(c) != 0; });
    num_nodes += is_numbered ? 1 : 0;
  }
  return num_nodes;
}

}  // namespace

HostFacts read_host_facts() {
  HostFacts facts;
  facts.processor = read_field("/proc/cpuinfo", "model name");
  if (facts.processor.empty()) facts.processor = "unknown";
  facts.vector_units = find_vector_units();
  facts.num_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  facts.num_allowed_cores = count_allowed_cores();
  facts.memory_bytes = read_kibibytes("MemTotal");
  facts.available_memory_bytes = read_kibibytes("MemAvailable");
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    facts.lockable_bytes = static_cast<std::int64_t>(limit.rlim_cur);
  }
  facts.num_gpu_nodes = count_gpu_nodes();
  return facts;
}

}  // namespace tokenyard::cli
