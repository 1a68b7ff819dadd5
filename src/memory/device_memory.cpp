#include "memory/device_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "memory/cuda_driver.hpp"
#include "memory/current_device.hpp"
#include "memory/gpus.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

bool has_attribute(int device, CUdevice_attribute attribute) {
  int value = 0;
  check_driver(cuda_driver().device_get_attribute(&value, attribute, device), "cuDeviceGetAttribute");
  return value != 0;
}

CUmemAllocationProp properties_of(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
  if (has_attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED)) {
    properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  }
  return properties;
}

std::size_t granularity_of(const CUmemAllocationProp& properties) {
  std::size_t granularity = 0;
  check_driver(cuda_driver().mem_get_allocation_granularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
               "cuMemGetAllocationGranularity");
  return granularity;
}

// An allocation must not be empty, and empty memory is valid.
std::size_t round_up(std::size_t num_bytes, std::size_t granularity) {
  return (std::max<std::size_t>(num_bytes, 1) + granularity - 1) / granularity * granularity;
}

void zero(std::byte* data, std::size_t num_bytes) {
  check_cuda(cudaMemsetAsync(data, 0, num_bytes, side_stream()), "cudaMemsetAsync");
  check_cuda(cudaStreamSynchronize(side_stream()), "cudaStreamSynchronize");
}

}  // namespace

std::shared_ptr<DeviceMemory> DeviceMemory::allocate(std::size_t num_bytes, int device, std::span<const int> users) {
  check_device(device);
  for (const int user : users) {
    const PeerAccess access = peer_access(user, device);
    if (!access.is_possible) fail(ErrorCode::kUnsupported, "{}", access.reason);
  }
  const CurrentDevice current(device);
  if (!has_attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)) {
    fail(ErrorCode::kUnsupported, "GPU {} has no virtual memory management: Ampere and later have it", device);
  }
  const CUmemAllocationProp properties = properties_of(device);
  std::shared_ptr<DeviceMemory> memory(new DeviceMemory);
  const std::size_t granularity = granularity_of(properties);
  memory->num_bytes_ = num_bytes;
  memory->mapped_bytes_ = round_up(num_bytes, granularity);
  memory->can_be_exported_ = properties.requestedHandleTypes != 0;
  check_driver(cuda_driver().mem_create(&memory->allocation_, memory->mapped_bytes_, &properties, 0), "cuMemCreate");
  std::vector<int> all_users(users.begin(), users.end());
  if (std::find(users.begin(), users.end(), device) == users.end()) all_users.push_back(device);
  memory->map(granularity, all_users);
  zero(memory->data_, memory->mapped_bytes_);
  return memory;
}

std::shared_ptr<DeviceMemory> DeviceMemory::import(const DeviceMemoryHandle& handle, std::size_t num_bytes,
                                                   std::span<const int> users) {
  if (users.empty()) fail_argument("memory is imported for no device: name at least one");
  for (const int user : users) check_device(user);
  const CurrentDevice current(users[0]);
  const std::size_t granularity = granularity_of(properties_of(users[0]));
  std::shared_ptr<DeviceMemory> memory(new DeviceMemory);
  memory->num_bytes_ = num_bytes;
  memory->mapped_bytes_ = round_up(num_bytes, granularity);
  // The driver takes a descriptor's number in the place of a pointer.
  const auto fd = static_cast<std::uintptr_t>(std::get<FileDescriptor>(handle).get());
  check_driver(cuda_driver().mem_import_from_shareable_handle(&memory->allocation_, reinterpret_cast<void*>(fd),
                                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
               "cuMemImportFromShareableHandle");
  memory->map(granularity, users);
  return memory;
}

void DeviceMemory::map(std::size_t granularity, std::span<const int> users) {
  const CudaDriver& driver = cuda_driver();
  CUdeviceptr address = 0;
  check_driver(driver.mem_address_reserve(&address, mapped_bytes_, granularity, 0, 0), "cuMemAddressReserve");
  data_ = reinterpret_cast<std::byte*>(address);
  check_driver(driver.mem_map(address, mapped_bytes_, 0, allocation_, 0), "cuMemMap");
  is_mapped_ = true;
  std::vector<CUmemAccessDesc> rights;
  for (const int user : users) {
    rights.push_back(
        {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = user}, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
  }
  check_driver(driver.mem_set_access(address, mapped_bytes_, rights.data(), rights.size()), "cuMemSetAccess");
}

DeviceMemoryHandle DeviceMemory::export_handle() const {
  if (!can_be_exported_) {
    fail(ErrorCode::kUnsupported,
         "this memory cannot be passed to another process: it was imported itself, or the driver makes no file descriptors for "
         "GPU memory; run the ranks as threads of one process");
  }
  int fd = -1;
  check_driver(cuda_driver().mem_export_to_shareable_handle(&fd, allocation_, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
               "cuMemExportToShareableHandle");
  return FileDescriptor(fd);
}

DeviceMemory::~DeviceMemory() {
  if (allocation_ == 0 && data_ == nullptr) return;
  const CudaDriver& driver = cuda_driver();
  const auto address = reinterpret_cast<CUdeviceptr>(data_);
  if (is_mapped_) driver.mem_unmap(address, mapped_bytes_);
  if (data_ != nullptr) driver.mem_address_free(address, mapped_bytes_);
  if (allocation_ != 0) driver.mem_release(allocation_);
}

}  // namespace tokenyard
