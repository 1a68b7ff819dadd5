// In place of gpu_part.cpp where CUDA is missing in the build.

#include "cli/gpu_part.hpp"

namespace tokenyard::cli {

GpuPart gpu_part() { return {}; }

}  // namespace tokenyard::cli
