// What the runtime knows of each thread, and of the process.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/software_gpu/graph.hpp"

namespace software_gpu {

int num_devices();
int current_device();
void set_current_device(int device);

// CUDA takes memory of a device when it is first used.
void start_device(int device);
bool is_started(int device);

// Keeps what cudaGetLastError() returns.
cudaError_t returned(cudaError_t result);

// What the calling thread captures to, or null.
Graph* captured_graph();
// cudaStreamCaptureModeRelaxed: what a capture forbids its thread is allowed.
cudaStreamCaptureMode exchange_capture_mode(cudaStreamCaptureMode mode);
cudaStreamCaptureMode capture_mode();
void set_captured_graph(Graph* graph);

// Calls `function`, unless the calling thread is capturing: then it may neither wait for the GPU nor take memory.
template <class Function>
cudaError_t outside_of_captures(Function function) {
  if (captured_graph() != nullptr && capture_mode() != cudaStreamCaptureModeRelaxed) {
    captured_graph()->is_spoilt = true;
    return returned(cudaErrorStreamCaptureUnsupported);
  }
  return function();
}

}  // namespace software_gpu
