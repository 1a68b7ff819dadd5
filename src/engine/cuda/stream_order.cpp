#include "engine/cuda/stream_order.hpp"

#include "base/cuda_error.hpp"

namespace tokenyard {

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

StreamOrder::StreamOrder() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

StreamOrder::~StreamOrder() { cudaEventDestroy(event_); }

void StreamOrder::enter(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (!was_used_ || stream == last_ || is_capturing(stream)) return;
  check_cuda(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}

void StreamOrder::leave(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (is_capturing(stream)) return;
  check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
  last_ = stream;
  was_used_ = true;
}

bool StreamOrder::is_over() const noexcept {
  const std::lock_guard lock(mutex_);
  return !was_used_ || cudaEventQuery(event_) != cudaErrorNotReady;
}

}  // namespace tokenyard
