// The few calls of NVIDIA's driver that tell which GPUs there are, found at run time: no CUDA is needed to build or to start.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace tokenyard::cli {

struct Gpu {
  std::string name;
  std::size_t memory_bytes = 0;
  int major = 0;  // compute capability
  int minor = 0;
  int num_multiprocessors = 0;
};

// Loads libcuda.so.1 for good: it starts threads that cannot be ended, so use it in a process of its own.
class CudaDriver {
 public:
  // Nothing, and the loader's words in `problem`, where there is no such library or it lacks a call.
  static std::unique_ptr<CudaDriver> load(std::string& problem);
  virtual ~CudaDriver() = default;

  // These return what went wrong in the driver's words, or an empty text. The first one comes before all others.
  virtual std::string initialize() = 0;
  virtual std::string list_gpus(std::vector<Gpu>& gpus) = 0;
  virtual std::string can_access(int gpu, int peer, bool& can) = 0;

  virtual int cuda_version() = 0;  // 12040 for 12.4
};

}  // namespace tokenyard::cli
