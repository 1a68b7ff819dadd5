// Memory of the software GPUs: ranges of this process' memory, of which it is known whose they are.
#pragma once

#include <cstddef>

namespace software_gpu {

enum class MemoryKind { kNone, kHost, kDevice };

struct MemoryRange {
  MemoryKind kind;
  int device;
};

void add_range(const void* begin, std::size_t num_bytes, const MemoryRange& range);
// How many bytes it had; 0 if there is none.
std::size_t remove_range(const void* begin);
MemoryRange range_of(const void* address);

// Takes bytes of the device's memory; false if there are not so many. What other processes take is not known here.
bool take_bytes(int device, std::size_t num_bytes);
void give_bytes_back(int device, std::size_t num_bytes);
std::size_t num_free_bytes(int device);

}  // namespace software_gpu
