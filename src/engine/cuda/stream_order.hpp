// Keeps calls that use the same memory one behind the other on the GPU, whichever streams they are in.
#pragma once

#include <mutex>

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
  Event event_ = nullptr;
  Stream last_ = nullptr;
  bool was_used_ = false;
};

bool is_capturing(Stream stream);

}  // namespace tokenyard
