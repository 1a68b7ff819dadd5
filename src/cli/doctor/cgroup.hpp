// What a control group leaves to this process. Affinity and free memory of the host do not show it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tokenyard::cli {

struct CgroupLimits {
  std::optional<double> num_cores;  // quota: seconds of all cores together per second
  std::string cores_file;           // that says so
  std::int64_t num_throttled = 0;   // periods in which the quota was used up
  std::optional<std::int64_t> memory_bytes;
  std::int64_t used_memory_bytes = 0;
  std::string memory_file;
};

// The narrowest limits of this process's control group and of all above it, by version 2 and version 1 of the interface.
// `root` stands before /proc and /sys.
CgroupLimits read_cgroup_limits(const std::string& root = "");

}  // namespace tokenyard::cli
