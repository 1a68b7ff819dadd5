#include "engine/cuda/remains.hpp"

#include <mutex>
#include <utility>

namespace tokenyard {
namespace {

struct Remains {
  std::function<bool()> is_over;
  std::vector<std::shared_ptr<void>> memory;
};

struct Store {
  std::mutex mutex;
  std::vector<Remains> remains;
};

// Never destroyed: CUDA may be gone by the time the process ends.
Store& store() {
  static auto* const kept = new Store;
  return *kept;
}

}  // namespace

void keep_until(std::function<bool()> is_over, std::vector<std::shared_ptr<void>> memory) {
  const std::lock_guard lock(store().mutex);
  store().remains.push_back({std::move(is_over), std::move(memory)});
}

void free_remains() {
  std::vector<Remains> freed;  // outside of the lock: it may take a while, and leave remains of its own
  {
    const std::lock_guard lock(store().mutex);
    std::vector<Remains> kept;
    for (Remains& remains : store().remains) (remains.is_over() ? freed : kept).push_back(std::move(remains));
    store().remains = std::move(kept);
  }
}

}  // namespace tokenyard
