#include "cli/gpu_part.hpp"

#include <cuda_runtime_api.h>
#include <fmt/core.h>

namespace tokenyard::cli {

GpuPart gpu_part() {
  constexpr int kMajor = CUDART_VERSION / 1000;
  constexpr int kMinor = CUDART_VERSION % 1000 / 10;
  GpuPart part{.is_built = true, .architectures = TOKENYARD_GPU_ARCHITECTURES, .toolkit = fmt::format("{}.{}", kMajor, kMinor)};
  // The library calls nothing newer than CUDA 12.4; a runtime of a later major version does not start on an earlier driver.
  if constexpr (kMajor == 12) part.minimum_driver = "of CUDA 12.4 (550) or later";
  if constexpr (kMajor == 13) part.minimum_driver = "of CUDA 13.0 (580) or later; built with a toolkit 12: of CUDA 12.4 (550)";
  if constexpr (kMajor > 13) part.minimum_driver = fmt::format("of CUDA {}.0 or later", kMajor);
  return part;
}

}  // namespace tokenyard::cli
