// Keeps calls that use the same memory one behind the other on the GPU, whichever streams they are in.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "tokenyard/execution.hpp"

struct CUevent_st;

namespace tokenyard {

// Thread-safe. Captured calls pass through without a trace: what orders them is the graph, and whoever launches it.
class StreamOrder {
 public:
  StreamOrder();  // on the current device
  ~StreamOrder();
  StreamOrder(const StreamOrder&) = delete;
  StreamOrder& operator=(const StreamOrder&) = delete;

  // What follows in `stream` comes behind the last leave().
  void enter(Stream stream);
  void leave(Stream stream);

  // Whether all up to the last leave() is over, or the device has failed. Never blocks.
  bool is_over() const noexcept;

 private:
  mutable std::mutex mutex_;
  int device_ = 0;
  Event event_ = nullptr;
  unsigned long long last_ = 0;  // the stream's number: its handle may be another stream's one day
  bool was_used_ = false;
};

// What a call has enqueued in a stream, for the orders that it stands in: it leaves them at its end, also where an exception
// breaks the call off between two launches, since those made before are under way.
class StreamSection {
 public:
  StreamSection(int device, Stream stream) : device_(device), stream_(stream) {}
  ~StreamSection();
  StreamSection(const StreamSection&) = delete;
  StreamSection& operator=(const StreamSection&) = delete;

  void enter(std::shared_ptr<StreamOrder> order);
  void leave();

 private:
  int device_;
  Stream stream_;
  std::vector<std::shared_ptr<StreamOrder>> orders_;
};

bool is_capturing(Stream stream);

}  // namespace tokenyard
