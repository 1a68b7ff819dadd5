// The benchmark with ranks on GPUs: throughput mode.
#pragma once

#include "cli/options.hpp"

namespace tokenyard::cli {

// `tokenyard bench --device cuda`; returns the program's exit code. Throws Error(kUnsupported) where this build has no CUDA or
// this host no GPU, with the reason and what to do.
int run_gpu_bench(const BenchOptions& options);

}  // namespace tokenyard::cli
