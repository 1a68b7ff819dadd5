#include "engine/cuda/stream_order.hpp"

#include <utility>

#include "base/cuda_error.hpp"
#include "memory/current_device.hpp"

namespace tokenyard {
namespace {

unsigned long long number_of(Stream stream) {
  unsigned long long number = 0;
  check_cuda(cudaStreamGetId(stream, &number), "cudaStreamGetId");
  return number;
}

}  // namespace

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

StreamOrder::StreamOrder() {
  check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

StreamOrder::~StreamOrder() {
  const CurrentDevice current(device_, std::nothrow);
  cudaEventDestroy(event_);
}

void StreamOrder::enter(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (!was_used_ || is_capturing(stream) || number_of(stream) == last_) return;
  check_cuda(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}

void StreamOrder::leave(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (is_capturing(stream)) return;
  check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
  last_ = number_of(stream);
  was_used_ = true;
}

bool StreamOrder::is_over() const noexcept {
  const std::lock_guard lock(mutex_);
  if (!was_used_) return true;
  // The question may be asked while the thread captures, which it does not touch.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  const cudaError_t result = cudaEventQuery(event_);
  cudaThreadExchangeStreamCaptureMode(&mode);
  if (result != cudaErrorNotReady) return true;
  // CUDA would report it behind the next launch of this thread.
  if (cudaPeekAtLastError() == cudaErrorNotReady) cudaGetLastError();
  return false;
}

StreamSection::~StreamSection() {
  try {
    leave();
  } catch (...) {
    // The device has failed: nothing on it is under way.
  }
}

void StreamSection::enter(std::shared_ptr<StreamOrder> order) {
  order->enter(stream_);
  orders_.push_back(std::move(order));
}

void StreamSection::leave() {
  if (orders_.empty()) return;
  const CurrentDevice current(device_);  // there is a default stream on each
  for (const std::shared_ptr<StreamOrder>& order : orders_) order->leave(stream_);
  orders_.clear();
}

}  // namespace tokenyard
