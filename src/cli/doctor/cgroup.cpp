#include "cli/doctor/cgroup.hpp"

#include <fmt/core.h>

#include <sstream>
#include <vector>

#include "cli/doctor/system_files.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;  // version 1 writes a number about as large as fits

// The group's folder and all above it up to `mount`. A container may see a path that does not exist in it: what exists counts.
std::vector<std::string> folders_of(const std::string& mount, std::string path) {
  std::vector<std::string> folders;
  while (!path.empty() && path != "/") {
    folders.push_back(mount + path);
    path.erase(path.rfind('/'));
  }
  folders.push_back(mount);
  return folders;
}

// "nr_throttled 17" in a file of such lines.
std::int64_t read_throttled(const std::string& path) {
  for (const std::string& line : read_lines(path)) {
    std::istringstream words(line);
    std::string name;
    std::int64_t number = 0;
    if (words >> name >> number && name == "nr_throttled") return number;
  }
  return 0;
}

void narrow_cores(CgroupLimits& limits, const std::string& folder, const std::string& file, double quota, double period) {
  if (quota <= 0 || period <= 0) return;
  const double num_cores = quota / period;
  if (limits.num_cores && *limits.num_cores <= num_cores) return;
  limits.num_cores = num_cores;
  limits.cores_file = file;
  limits.num_throttled = read_throttled(folder + "/cpu.stat");
}

void narrow_memory(CgroupLimits& limits, const std::string& file, const std::string& used_file) {
  const std::optional<std::int64_t> limit = read_number(file);
  if (!limit || *limit >= kNoLimit || (limits.memory_bytes && *limits.memory_bytes <= *limit)) return;
  limits.memory_bytes = limit;
  limits.used_memory_bytes = read_number(used_file).value_or(0);
  limits.memory_file = file;
}

void read_folder_of_version_2(CgroupLimits& limits, const std::string& folder) {
  std::istringstream words(read_line(folder + "/cpu.max"));
  double quota = 0;
  double period = 0;
  if (words >> quota >> period) narrow_cores(limits, folder, folder + "/cpu.max", quota, period);  // "max" is no number
  narrow_memory(limits, folder + "/memory.max", folder + "/memory.current");
}

}  // namespace

CgroupLimits read_cgroup_limits(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  CgroupLimits limits;
  for (const std::string& line : read_lines(root + "/proc/self/cgroup")) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      for (const std::string& folder : folders_of(mount, path)) read_folder_of_version_2(limits, folder);
    }
    if (controllers.find(",cpu,") != std::string::npos) {
      for (const std::string& folder : folders_of(mount + "/cpu", path)) {
        const std::string file = folder + "/cpu.cfs_quota_us";
        narrow_cores(limits, folder, file, static_cast<double>(read_number(file).value_or(-1)),
                     static_cast<double>(read_number(folder + "/cpu.cfs_period_us").value_or(0)));
      }
    }
    if (controllers.find(",memory,") != std::string::npos) {
      for (const std::string& folder : folders_of(mount + "/memory", path)) {
        narrow_memory(limits, folder + "/memory.limit_in_bytes", folder + "/memory.usage_in_bytes");
      }
    }
  }
  return limits;
}

}  // namespace tokenyard::cli
