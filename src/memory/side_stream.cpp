#include "memory/side_stream.hpp"

#include <map>
#include <mutex>

#include "base/cuda_error.hpp"

namespace tokenyard {

Stream side_stream() {
  static std::mutex mutex;
  static std::map<int, Stream> streams;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  Stream& stream = streams[device];
  if (stream == nullptr) stream = make_urgent_stream();
  return stream;
}

Stream make_urgent_stream() {
  int least = 0;
  int greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  Stream stream = nullptr;
  check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
  return stream;
}

}  // namespace tokenyard
