// The rows of a dispatch sent by NCCL: what one would write without Tokenyard.
#pragma once

#include "cli/bench_setup.hpp"
#include "cli/gpu_bench_rank.hpp"
#include "cli/gpu_stage.hpp"

namespace tokenyard::cli {

// Before any rank exists: throws Error(kUnsupported) where NCCL is missing, or ranks would share GPUs, which NCCL does not do.
void find_nccl(int num_ranks, int num_gpus);

// Collective: rows that lie packed by destination go to all ranks, this one included, in one NCCL group. With --check, bytes
// that say who sent what are compared.
GpuMeasurement measure_nccl(const BenchSetup& setup, GpuStage& stage);

}  // namespace tokenyard::cli
