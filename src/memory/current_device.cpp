#include "memory/current_device.hpp"

#include <map>
#include <mutex>

#include "memory/cuda_driver.hpp"
#include "memory/gpus.hpp"

namespace tokenyard {
namespace {

// The context that the runtime uses on the device, started where it is not. Kept for good, as the runtime keeps it.
CUcontext primary_context(int device) {
  static std::mutex mutex;
  static std::map<int, CUcontext> contexts;
  const std::lock_guard lock(mutex);
  if (const auto known = contexts.find(device); known != contexts.end()) return known->second;
  check_device(device);  // starts the driver, too
  CUcontext context = nullptr;
  check_driver(cuda_driver().device_primary_ctx_retain(&context, device), "cuDevicePrimaryCtxRetain");
  return contexts[device] = context;
}

}  // namespace

CurrentDevice::CurrentDevice(int device) {
  check_driver(cuda_driver().ctx_push_current(primary_context(device)), "cuCtxPushCurrent");
  is_pushed_ = true;
}

CurrentDevice::CurrentDevice(int device, std::nothrow_t) noexcept {
  try {
    is_pushed_ = cuda_driver().ctx_push_current(primary_context(device)) == CUDA_SUCCESS;
  } catch (...) {
    is_pushed_ = false;
  }
}

CurrentDevice::~CurrentDevice() {
  if (!is_pushed_) return;
  CUcontext popped = nullptr;
  cuda_driver().ctx_pop_current(&popped);
}

}  // namespace tokenyard
