#include "memory/virtual_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/fail.hpp"
#include "memory/cuda_driver.hpp"
#include "memory/current_device.hpp"

namespace tokenyard {
namespace {

static_assert(sizeof(CUmemFabricHandle) == sizeof(HandleBytes));

CUmemAllocationHandleType type_of(HandleKind kind) {
  switch (kind) {
    case HandleKind::kDescriptor: return CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    case HandleKind::kFabric: return CU_MEM_HANDLE_TYPE_FABRIC;
    default: return CU_MEM_HANDLE_TYPE_NONE;
  }
}

CUmemAllocationProp properties_of(int device, HandleKind kind) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
  properties.requestedHandleTypes = type_of(kind);
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

// Where the driver writes a handle of either kind.
struct Exported {
  int fd = -1;
  CUmemFabricHandle fabric{};

  void* target(HandleKind kind) { return kind == HandleKind::kDescriptor ? static_cast<void*>(&fd) : &fabric; }
};

class VirtualMemory final : public DeviceAllocation {
 public:
  ~VirtualMemory() override {
    const CudaDriver& driver = cuda_driver();
    const auto address = reinterpret_cast<CUdeviceptr>(data_);
    if (is_mapped_) driver.mem_unmap(address, mapped_bytes_);
    if (data_ != nullptr) driver.mem_address_free(address, mapped_bytes_);
    if (allocation_ != 0) driver.mem_release(allocation_);
  }

  void create(std::size_t num_bytes, int device, HandleKind kind) {
    const CUmemAllocationProp properties = properties_of(device, kind);
    granularity_ = granularity_of(properties);
    mapped_bytes_ = round_up(num_bytes, granularity_);
    check_driver(cuda_driver().mem_create(&allocation_, mapped_bytes_, &properties, 0), "cuMemCreate");
    kind_ = kind;
  }

  void import(const MemoryHandle& handle, std::size_t num_bytes, int device) {
    const HandleKind kind = kind_of(handle);
    granularity_ = granularity_of(properties_of(device, kind));
    mapped_bytes_ = round_up(num_bytes, granularity_);
    // The driver takes a descriptor's number in the place of a pointer.
    auto* source = reinterpret_cast<void*>(static_cast<std::uintptr_t>(descriptor_of(handle)));
    CUmemFabricHandle fabric{};
    if (const auto* given = std::get_if<FabricHandle>(&handle)) {
      std::memcpy(&fabric, given->bytes.data(), sizeof(fabric));
      source = &fabric;
      lease_of_owner_ = copy_of(given->lease);
    }
    check_driver(cuda_driver().mem_import_from_shareable_handle(&allocation_, source, type_of(kind)),
                 "cuMemImportFromShareableHandle");
  }

  void map(std::span<const int> users) {
    const CudaDriver& driver = cuda_driver();
    CUdeviceptr address = 0;
    check_driver(driver.mem_address_reserve(&address, mapped_bytes_, granularity_, 0, 0), "cuMemAddressReserve");
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

  MemoryHandle export_handle() override {
    if (kind_ == HandleKind::kNone) {
      fail(ErrorCode::kUnsupported,
           "this memory cannot be passed to another process: it was imported itself, or taken for this process alone");
    }
    Exported exported;
    check_driver(cuda_driver().mem_export_to_shareable_handle(exported.target(kind_), allocation_, type_of(kind_), 0),
                 "cuMemExportToShareableHandle");
    if (kind_ == HandleKind::kDescriptor) return FileDescriptor(exported.fd);
    FabricHandle handle;
    std::memcpy(handle.bytes.data(), &exported.fabric, sizeof(exported.fabric));
    handle.lease = lease_.hand_out();
    return handle;
  }

 private:
  std::size_t granularity_ = 0;
  std::size_t mapped_bytes_ = 0;
  CUmemGenericAllocationHandle allocation_ = 0;  // 0: none
  bool is_mapped_ = false;
  HandleKind kind_ = HandleKind::kNone;  // that it can be exported by
  FileDescriptor lease_of_owner_{};      // of what was imported by a fabric handle; closes behind the mapping
};

}  // namespace

bool has_virtual_memory(int device) { return has_attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED); }

std::shared_ptr<DeviceAllocation> make_virtual_memory(std::size_t num_bytes, int device, std::span<const int> users,
                                                      HandleKind kind) {
  const CurrentDevice current(device);
  auto memory = std::make_shared<VirtualMemory>();
  memory->create(num_bytes, device, kind);
  std::vector<int> all_users(users.begin(), users.end());
  if (std::find(users.begin(), users.end(), device) == users.end()) all_users.push_back(device);
  memory->map(all_users);
  return memory;
}

std::shared_ptr<DeviceAllocation> map_virtual_memory(const MemoryHandle& handle, std::size_t num_bytes, int device) {
  const CurrentDevice current(device);
  auto memory = std::make_shared<VirtualMemory>();
  memory->import(handle, num_bytes, device);
  memory->map(std::span(&device, 1));
  return memory;
}

std::string find_refusal(int device, HandleKind kind) {
  const CurrentDevice current(device);
  const CudaDriver& driver = cuda_driver();
  const CUmemAllocationProp properties = properties_of(device, kind);
  std::size_t granularity = 0;
  CUresult result = driver.mem_get_allocation_granularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  if (result != CUDA_SUCCESS) return driver_text("cuMemGetAllocationGranularity", result);
  CUmemGenericAllocationHandle allocation = 0;
  result = driver.mem_create(&allocation, granularity, &properties, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return "";
  if (result != CUDA_SUCCESS) return driver_text("cuMemCreate", result);
  Exported exported;
  result = driver.mem_export_to_shareable_handle(exported.target(kind), allocation, type_of(kind), 0);
  const FileDescriptor closed_at_the_end(exported.fd);
  driver.mem_release(allocation);
  return result == CUDA_SUCCESS ? "" : driver_text("cuMemExportToShareableHandle", result);
}

}  // namespace tokenyard
