// A thread that looks whether calls are done and calls back: for callers who have no thread to spare for looking.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "base/backoff.hpp"

namespace tokenyard {

class Watcher {
 public:
  explicit Watcher(WaitStyle style);
  ~Watcher();  // drops what has not been called back; waits for a callback that is running, unless that is where it is called
               // from
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Calls `callback` once, from the watcher's thread, after is_done() has returned true.
  void add(std::function<bool()> is_done, std::function<void()> callback);

 private:
  struct Entry {
    std::function<bool()> is_done;
    std::function<void()> callback;
  };
  struct State;
  static void run(const std::shared_ptr<State>& state, WaitStyle style);

  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace tokenyard
