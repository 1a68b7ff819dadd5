// Errors of the CUDA runtime as errors of this library. For .cpp and .cu files: CUDA's header is heavy.
#pragma once

#include <cuda_runtime_api.h>

namespace tokenyard {

// `call` names what returned `result`. Throws Error(kUnsupported) where this host has no device or driver for it, otherwise
// Error(kSystem), with CUDA's reason and what to do; CUDA itself no longer reports it then.
void check_cuda(cudaError_t result, const char* call);

}  // namespace tokenyard
