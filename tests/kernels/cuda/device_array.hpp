// GPUs for tests: whether there are any, and memory on them that cleans up after itself.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/cuda_error.hpp"

namespace tokenyard::test {

// Kernels are loaded when CUDA starts: loading one behind a kernel that waits for it would be a deadlock.
inline const bool kLoadsEagerly = setenv("CUDA_MODULE_LOADING", "EAGER", 0) == 0;

inline int count_gpus() {
  int num_gpus = 0;
  return cudaGetDeviceCount(&num_gpus) == cudaSuccess ? num_gpus : 0;
}

// In a test's body or its fixture's SetUp.
#define SKIP_WITHOUT_GPUS(num_needed)                                                                                      \
  if (::tokenyard::test::count_gpus() < (num_needed)) {                                                                    \
    GTEST_SKIP() << "needs " << (num_needed) << " GPU(s), and " << ::tokenyard::test::count_gpus() << " are visible here"; \
  }

// On the device that is current when it is made; not copied. Ready for any stream: copies from pageable memory may still be
// under way when cudaMemcpy returns, and the streams of tests do not wait for them.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t num_elements = 0) : num_elements_(num_elements) {
    check_cuda(cudaMalloc(&data_, (num_elements + 1) * sizeof(T)), "cudaMalloc");
    check_cuda(cudaMemset(data_, 0, (num_elements + 1) * sizeof(T)), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  explicit DeviceArray(const std::vector<T>& contents) : DeviceArray(contents.size()) { assign(contents); }
  DeviceArray(DeviceArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)), num_elements_(other.num_elements_) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(num_elements_, other.num_elements_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return static_cast<T*>(data_); }
  std::size_t num_elements() const { return num_elements_; }

  void assign(const std::vector<T>& contents) {
    check_cuda(cudaMemcpy(data_, contents.data(), contents.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  std::vector<T> contents() const {
    std::vector<T> contents(num_elements_);
    check_cuda(cudaMemcpy(contents.data(), data_, num_elements_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return contents;
  }

 private:
  void* data_ = nullptr;
  std::size_t num_elements_ = 0;
};

}  // namespace tokenyard::test
