#include "memory/device_region.hpp"

#include <utility>

#include "base/cuda_error.hpp"
#include "memory/current_device.hpp"
#include "memory/device_memory.hpp"

namespace tokenyard {
namespace {

std::shared_ptr<MemoryRegion> region_of(std::shared_ptr<DeviceMemory> memory, const MemoryPlace& place, MemoryHandle handle) {
  std::byte* const data = memory->data();
  const std::size_t num_bytes = memory->num_bytes();
  return MemoryRegion::owned(std::move(memory), data, num_bytes, place, std::move(handle));
}

}  // namespace

std::shared_ptr<MemoryRegion> make_device_region(std::size_t num_bytes, const MemoryPlace& place) {
  return region_of(DeviceMemory::allocate(num_bytes, place.device, place.users), place, FileDescriptor());
}

std::shared_ptr<MemoryRegion> make_shareable_device_region(std::size_t num_bytes, const MemoryPlace& place) {
  if (place.handle == HandleKind::kNone) return make_device_region(num_bytes, place);
  auto memory = DeviceMemory::allocate(num_bytes, place.device, place.users, place.handle);
  MemoryHandle handle = memory->export_handle();
  return region_of(std::move(memory), place, std::move(handle));
}

std::shared_ptr<MemoryRegion> map_device_region(const MemoryHandle& handle, std::size_t num_bytes, const MemoryPlace& place) {
  return region_of(DeviceMemory::import(handle, num_bytes, place.device), place, FileDescriptor());
}

std::shared_ptr<std::byte> register_host_memory(std::byte* pages, std::size_t num_bytes, int device) {
  const CurrentDevice current(device);
  check_cuda(cudaHostRegister(pages, num_bytes, cudaHostRegisterPortable | cudaHostRegisterMapped), "cudaHostRegister");
  const std::shared_ptr<std::byte> registration(pages, [device](std::byte* registered) {
    const CurrentDevice current_again(device, std::nothrow);
    cudaHostUnregister(registered);
  });
  void* address = nullptr;
  check_cuda(cudaHostGetDevicePointer(&address, pages, 0), "cudaHostGetDevicePointer");
  return {registration, static_cast<std::byte*>(address)};
}

}  // namespace tokenyard
