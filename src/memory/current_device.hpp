// Makes a device the calling thread's current one for a while.
#pragma once

#include <new>

namespace tokenyard {

// By the driver's stack of contexts, not by cudaSetDevice: setting the device that was current before would start CUDA there,
// for threads that never use it, at some 500 MiB of that GPU per process. Throws where the device or the driver is missing.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  // For destructors: at the end of the process the driver may have gone before them, and then nothing becomes current.
  CurrentDevice(int device, std::nothrow_t) noexcept;
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  bool is_pushed_ = false;
};

}  // namespace tokenyard
