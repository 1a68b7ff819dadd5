// What this build has for GPUs.
#pragma once

#include <string>

namespace tokenyard::cli {

struct GpuPart {
  bool is_built = false;
  std::string architectures{};   // as CMake names them: "80-real, 90-real"
  std::string toolkit{};         // "13.0"
  std::string minimum_driver{};  // for people
};

GpuPart gpu_part();

}  // namespace tokenyard::cli
