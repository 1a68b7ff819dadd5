#include "cli/gpu_part.hpp"

#include <cuda_runtime_api.h>
#include <fmt/core.h>

namespace tokenyard::cli {

GpuPart gpu_part() {
  constexpr int kMajor = CUDART_VERSION / 1000;
  constexpr int kMinor = CUDART_VERSION % 1000 / 10;
  GpuPart part{.is_built = true, .architectures = TOKENYARD_GPU_ARCHITECTURES, .toolkit = fmt::format("{}.{}", kMajor, kMinor)};
  // The library calls nothing newer than CUDA 12.4 (memory/cuda_driver.cpp asks for no newer interface); a runtime of a later
  // major version does not start on an earlier driver.
  part.minimum_driver = "of CUDA 12.4 (550) or later";
  if constexpr (kMajor > 12) {
    part.minimum_driver = fmt::format("of CUDA {}.0{} or later; a build with a toolkit 12 would need one of CUDA 12.4 (550)",
                                      kMajor, kMajor == 13 ? " (580)" : "");
  }
  return part;
}

}  // namespace tokenyard::cli
