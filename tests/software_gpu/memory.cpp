#include "tests/software_gpu/memory.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

#include "tests/software_gpu/device_limits.hpp"

namespace software_gpu {
namespace {

struct Range {
  std::size_t num_bytes;
  MemoryRange what;
};

// Never destroyed: threads still use it while the process ends.
struct Memory {
  std::mutex mutex;
  std::map<std::uintptr_t, Range> ranges;
  std::map<int, std::size_t> num_taken;  // bytes
};

Memory& memory() {
  static auto* const all = new Memory;
  return *all;
}

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

}  // namespace

void add_range(const void* begin, std::size_t num_bytes, const MemoryRange& range) {
  const std::lock_guard lock(memory().mutex);
  memory().ranges[number(begin)] = {std::max<std::size_t>(num_bytes, 1), range};
}

std::size_t remove_range(const void* begin) {
  const std::lock_guard lock(memory().mutex);
  const auto found = memory().ranges.find(number(begin));
  if (found == memory().ranges.end()) return 0;
  const std::size_t num_bytes = found->second.num_bytes;
  memory().ranges.erase(found);
  return num_bytes;
}

MemoryRange range_of(const void* address) {
  const std::lock_guard lock(memory().mutex);
  const auto next = memory().ranges.upper_bound(number(address));
  if (next == memory().ranges.begin()) return {MemoryKind::kNone, -1};
  const auto& [begin, range] = *std::prev(next);
  return number(address) - begin < range.num_bytes ? range.what : MemoryRange{MemoryKind::kNone, -1};
}

bool take_bytes(int device, std::size_t num_bytes) {
  const std::lock_guard lock(memory().mutex);
  if (num_bytes > kDeviceBytes - memory().num_taken[device]) return false;
  memory().num_taken[device] += num_bytes;
  return true;
}

void give_bytes_back(int device, std::size_t num_bytes) {
  const std::lock_guard lock(memory().mutex);
  memory().num_taken[device] -= num_bytes;
}

std::size_t num_free_bytes(int device) {
  const std::lock_guard lock(memory().mutex);
  return kDeviceBytes - memory().num_taken[device];
}

}  // namespace software_gpu
