// The runtime's functions for memory.

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/device_limits.hpp"
#include "tests/software_gpu/heap.hpp"
#include "tests/software_gpu/memory.hpp"
#include "tests/software_gpu/stream.hpp"

using namespace software_gpu;

namespace {

std::mutex heap_mutex;
Heap& heap() {
  static auto* const all = new Heap;
  return *all;
}

// Where another process finds memory of this one.
struct IpcHandle {
  int process;
  int fd;
  std::size_t offset;
  std::size_t num_bytes;
};
static_assert(sizeof(IpcHandle) <= sizeof(cudaIpcMemHandle_t));

}  // namespace

cudaError_t cudaMalloc(void** address, std::size_t num_bytes) {
  *address = nullptr;
  return outside_of_captures([&] {
    const int device = current_device();
    start_device(device);
    if (num_bytes == 0) return cudaSuccess;
    if (!take_bytes(device, num_bytes)) return returned(cudaErrorMemoryAllocation);
    {
      const std::lock_guard lock(heap_mutex);
      *address = heap().allocate(num_bytes);
    }
    add_range(*address, num_bytes, {MemoryKind::kDevice, device});
    return cudaSuccess;
  });
}

cudaError_t cudaMallocManaged(void** address, std::size_t num_bytes, unsigned) { return cudaMalloc(address, num_bytes); }

cudaError_t cudaFree(void* address) {
  if (address == nullptr) return cudaSuccess;
  return outside_of_captures([&] {
    const MemoryRange range = range_of(address);
    if (range.kind != MemoryKind::kDevice) return returned(cudaErrorInvalidValue);
    finish_device(range.device);
    const std::lock_guard lock(heap_mutex);
    const std::size_t num_bytes = heap().free(static_cast<std::byte*>(address));
    if (num_bytes == 0) return returned(cudaErrorInvalidValue);  // not what cudaMalloc gave
    remove_range(address);
    give_bytes_back(range.device, num_bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** address, std::size_t num_bytes, unsigned) {
  constexpr std::size_t kPageBytes = 4096;
  return outside_of_captures([&] {
    start_device(current_device());
    if (posix_memalign(address, kPageBytes, std::max<std::size_t>(num_bytes, 1)) != 0)
      return returned(cudaErrorMemoryAllocation);
    add_range(*address, num_bytes, {MemoryKind::kHost, current_device()});
    return cudaSuccess;
  });
}
cudaError_t cudaFreeHost(void* address) {
  if (address == nullptr) return cudaSuccess;
  remove_range(address);
  std::free(address);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* address, std::size_t num_bytes, unsigned) {
  add_range(address, num_bytes, {MemoryKind::kHost, current_device()});
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* address) {
  remove_range(address);
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device_address, void* address, unsigned) {
  *device_address = address;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const MemoryRange range = range_of(address);
  *attributes = {};
  attributes->type = range.kind == MemoryKind::kDevice ? cudaMemoryTypeDevice
                     : range.kind == MemoryKind::kHost ? cudaMemoryTypeHost
                                                       : cudaMemoryTypeUnregistered;
  attributes->device = range.device;
  attributes->hostPointer = range.kind == MemoryKind::kHost ? const_cast<void*>(address) : nullptr;
  attributes->devicePointer = range.kind == MemoryKind::kNone ? nullptr : const_cast<void*>(address);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* num_free, std::size_t* num_all) {
  *num_free = num_free_bytes(current_device());
  *num_all = kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t num_bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (num_bytes == 0) return cudaSuccess;
  // Pageable memory is read at once, as the runtime does by a copy of its own.
  if (range_of(from).kind == MemoryKind::kNone && captured_graph() == nullptr) {
    const auto* begin = static_cast<const std::byte*>(from);
    enqueue(stream,
            [to, bytes = std::vector<std::byte>(begin, begin + num_bytes)] { std::memcpy(to, bytes.data(), bytes.size()); });
    return cudaSuccess;
  }
  enqueue(stream, [=] { std::memcpy(to, from, num_bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t num_bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t num_bytes, cudaMemcpyKind kind) {
  return outside_of_captures([&] {
    cudaMemcpyAsync(to, from, num_bytes, kind, nullptr);
    return cudaStreamSynchronize(nullptr);
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t num_bytes, cudaStream_t stream) {
  enqueue(stream, [=] { std::memset(to, value, num_bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, std::size_t num_bytes) {
  return outside_of_captures([&] {
    cudaMemsetAsync(to, value, num_bytes, nullptr);
    return cudaStreamSynchronize(nullptr);
  });
}
// Variables of the device are variables of the program.
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t num_bytes, std::size_t offset,
                               cudaMemcpyKind kind) {
  return cudaMemcpy(static_cast<std::byte*>(const_cast<void*>(symbol)) + offset, from, num_bytes, kind);
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* address) {
  const std::lock_guard lock(heap_mutex);
  const std::size_t offset = heap().offset_of(address);
  const std::size_t num_bytes = heap().mapped_bytes(offset);
  if (num_bytes == 0) return returned(cudaErrorInvalidValue);
  const IpcHandle made{getpid(), heap().fd(), offset, num_bytes};
  std::memset(handle, 0, sizeof(*handle));
  std::memcpy(handle, &made, sizeof(made));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** address, cudaIpcMemHandle_t handle, unsigned) {
  IpcHandle given{};
  std::memcpy(&given, &handle, sizeof(given));
  if (given.process == getpid()) return returned(cudaErrorDeviceUninitialized);
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/fd/%d", given.process, given.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return returned(cudaErrorInvalidValue);
  void* mapped = mmap(nullptr, given.num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(given.offset));
  close(fd);
  if (mapped == MAP_FAILED) return returned(cudaErrorMemoryAllocation);
  add_range(mapped, given.num_bytes, {MemoryKind::kDevice, current_device()});
  *address = mapped;
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* address) {
  const std::size_t num_bytes = remove_range(address);
  if (num_bytes == 0) return returned(cudaErrorInvalidValue);
  munmap(address, num_bytes);
  return cudaSuccess;
}
