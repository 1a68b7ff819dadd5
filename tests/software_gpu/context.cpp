#include "tests/software_gpu/context.hpp"

#include <utility>

#include "tests/support/number_in_environment.hpp"

namespace software_gpu {
namespace {

thread_local int device_of_thread = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local Graph* graph_of_thread = nullptr;
thread_local cudaStreamCaptureMode capture_mode_of_thread = cudaStreamCaptureModeGlobal;

}  // namespace

int num_devices() {
  static const auto number = static_cast<int>(tokenyard::test::number_in_environment("TOKENYARD_SOFTWARE_GPUS", 2));
  return number;
}

int current_device() { return device_of_thread; }
void set_current_device(int device) { device_of_thread = device; }

cudaError_t returned(cudaError_t result) {
  if (result != cudaSuccess) last_error = result;
  return result;
}

Graph* captured_graph() { return graph_of_thread; }
void set_captured_graph(Graph* graph) { graph_of_thread = graph; }
cudaStreamCaptureMode exchange_capture_mode(cudaStreamCaptureMode mode) { return std::exchange(capture_mode_of_thread, mode); }
cudaStreamCaptureMode capture_mode() { return capture_mode_of_thread; }

}  // namespace software_gpu

using namespace software_gpu;

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
