// Launches of kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace software_gpu {

// `address` tells kernels apart.
void launch(const void* address, dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, cudaStream_t stream,
            std::function<void()> kernel);

// Dynamic shared memory that a kernel may have: more than 48 KiB, if cudaFuncSetAttribute has said so.
std::size_t max_dynamic_bytes(const void* address);

}  // namespace software_gpu
