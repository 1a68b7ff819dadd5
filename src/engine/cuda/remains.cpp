#include "engine/cuda/remains.hpp"

#include <mutex>
#include <utility>

namespace tokenyard {
namespace {

struct Remains {
  std::function<bool()> is_over;
  std::vector<std::shared_ptr<void>> memory;
};

}  // namespace

void keep_until(std::function<bool()> is_over, std::vector<std::shared_ptr<void>> memory) {
  static std::mutex mutex;
  // Never destroyed: CUDA may be gone by the time the process ends.
  static auto* all = new std::vector<Remains>;
  const std::lock_guard lock(mutex);
  if (!memory.empty()) all->push_back({std::move(is_over), std::move(memory)});
  std::erase_if(*all, [](const Remains& remains) { return remains.is_over(); });
}

}  // namespace tokenyard
