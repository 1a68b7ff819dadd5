// Launches of kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace software_gpu {

void launch(dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, cudaStream_t stream, std::function<void()> kernel);

}  // namespace software_gpu
