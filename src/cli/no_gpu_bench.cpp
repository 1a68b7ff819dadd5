// In place of gpu_bench.cpp and gpu_count.cpp where CUDA is missing in the build.

#include "base/fail.hpp"
#include "cli/gpu_bench.hpp"

namespace tokenyard::cli {

int run_gpu_bench(const BenchOptions&) {
  fail(ErrorCode::kUnsupported,
       "--device cuda: this program was built without CUDA; build it where nvcc is, with -DTOKENYARD_CUDA=ON");
}

}  // namespace tokenyard::cli
