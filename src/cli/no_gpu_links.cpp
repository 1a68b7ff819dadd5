// In place of gpu_links.cpp where CUDA is missing in the build.

#include "base/fail.hpp"
#include "cli/gpu_links.hpp"

namespace tokenyard::cli {

GpuLinks measure_gpu_links() {
  fail(ErrorCode::kUnsupported,
       "info --measure: this program was built without CUDA; build it where nvcc is, with -DTOKENYARD_CUDA=ON");
}

}  // namespace tokenyard::cli
