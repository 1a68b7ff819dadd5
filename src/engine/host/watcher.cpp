#include "engine/host/watcher.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/quiet_thread.hpp"

namespace tokenyard {

struct Watcher::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Entry> entries;
  bool stopped = false;
};

Watcher::Watcher(WaitStyle style)
    : state_(std::make_shared<State>()),
      thread_(start_quiet_thread("watches pending calls", [state = state_, style] { run(state, style); })) {}

Watcher::~Watcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
    state_->entries.clear();
  }
  state_->changed.notify_all();
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();  // the last handle of the plan went in a callback
  } else {
    thread_.join();
  }
}

void Watcher::add(std::function<bool()> is_done, std::function<void()> callback) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->entries.push_back({std::move(is_done), std::move(callback)});
  }
  state_->changed.notify_all();
}

void Watcher::run(const std::shared_ptr<State>& state, WaitStyle style) {
  std::unique_lock lock(state->mutex);
  while (true) {
    state->changed.wait(lock, [&] { return state->stopped || !state->entries.empty(); });
    Backoff backoff(style);
    while (!state->stopped && !state->entries.empty()) {
      const auto done = std::find_if(state->entries.begin(), state->entries.end(), [](const Entry& e) { return e.is_done(); });
      if (done != state->entries.end()) {
        std::optional<Entry> entry(std::move(*done));
        state->entries.erase(done);
        lock.unlock();
        entry->callback();
        entry.reset();  // with what it captured, perhaps the plan: then this watcher goes too, and needs the lock
        lock.lock();
        backoff = Backoff(style);
        continue;
      }
      lock.unlock();
      backoff.pause();
      lock.lock();
    }
    if (state->stopped) return;
  }
}

}  // namespace tokenyard
