// Streams: what is asked of one happens in this order, each thing in a thread of the host.
#pragma once

#include <cuda_runtime_api.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "tests/software_gpu/mark.hpp"

namespace software_gpu {

struct Graph;

class Stream {
 public:
  Stream(int device, bool is_blocking);

  int device() const { return device_; }
  bool is_blocking() const { return is_blocking_; }
  unsigned long long id() const { return id_; }

  void add(std::function<void()> operation);
  // Until all that has been asked so far has happened.
  void finish();
  bool is_idle();
  // When all that has been asked so far has happened.
  std::shared_ptr<Mark> mark();

  Graph* graph = nullptr;  // that it is captured to
  int lane = 0;            // of that

 private:
  void run();

  int device_;
  bool is_blocking_;  // it and the default stream wait for each other
  unsigned long long id_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> operations_;
  std::uint64_t num_asked_ = 0;
  std::uint64_t num_done_ = 0;
  bool is_running_ = false;
};

// Also of the default streams' handles, for the current device.
Stream* stream_of(cudaStream_t stream);

Stream* make_stream(bool is_blocking);
// What has been asked of it happens still.
void destroy_stream(Stream* stream);

// What comes in the stream when all that was asked before has happened; or in each launch of the graph that it is captured to.
void enqueue(cudaStream_t stream, std::function<void()> operation);
void enqueue_uncaptured(Stream* stream, std::function<void()> operation);

// Until everything in the streams of the device has happened.
void finish_device(int device);

}  // namespace software_gpu
