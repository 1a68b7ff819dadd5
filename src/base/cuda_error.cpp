#include "base/cuda_error.hpp"

#include "base/fail.hpp"

namespace tokenyard {
namespace {

const char* advice_for(cudaError_t result) {
  switch (result) {
    case cudaErrorNoDevice: return "no GPU is visible: look at CUDA_VISIBLE_DEVICES and nvidia-smi";
    case cudaErrorInsufficientDriver:
      return "the NVIDIA driver is missing or older than the CUDA that this program was built with: install a newer driver";
    case cudaErrorNoKernelImageForDevice: return "this build has no kernels for this GPU: Ampere (8.0) is the oldest";
    case cudaErrorMemoryAllocation: return "the GPU's memory is full: make the plan smaller, or end what else runs there";
    case cudaErrorInvalidDevice: return "the device number is too large for the GPUs that CUDA_VISIBLE_DEVICES shows";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
      return "a kernel of this process has failed and CUDA stays unusable in it: run compute-sanitizer, then restart the "
             "process";
    default: return "the error may come from an earlier call on this device";
  }
}

bool is_missing(cudaError_t result) {
  return result == cudaErrorNoDevice || result == cudaErrorInsufficientDriver || result == cudaErrorNoKernelImageForDevice;
}

}  // namespace

void check_cuda(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  // Told once is enough: CUDA would report it behind the caller's next launch as well. What the device cannot recover from
  // comes again.
  cudaGetLastError();
  fail(is_missing(result) ? ErrorCode::kUnsupported : ErrorCode::kSystem, "{} failed: {} ({}, {}); {}", call,
       cudaGetErrorString(result), cudaGetErrorName(result), static_cast<int>(result), advice_for(result));
}

}  // namespace tokenyard
