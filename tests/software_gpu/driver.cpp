// The driver's functions that the library looks up: its virtual memory, and a wait of streams.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/memory.hpp"
#include "tests/software_gpu/stream.hpp"

using namespace software_gpu;

namespace {

constexpr std::size_t kGranularity = std::size_t{2} << 20;

// Physical memory, as long as somebody has its handle or has mapped it.
struct Allocation {
  int fd;
  std::size_t num_bytes;
  int device;
  bool is_own;  // was made here, and not imported
  int num_uses;
};

std::mutex mutex;
// What is mapped at a reserved address; null: nothing.
std::map<std::uintptr_t, Allocation*>& reservations() {
  static auto* const all = new std::map<std::uintptr_t, Allocation*>;
  return *all;
}
thread_local std::vector<int> pushed_devices;

void let_go(Allocation* allocation) {
  if (--allocation->num_uses > 0) return;
  close(allocation->fd);
  if (allocation->is_own) give_bytes_back(allocation->device, allocation->num_bytes);
  delete allocation;
}

Allocation* allocation_of(CUmemGenericAllocationHandle handle) { return reinterpret_cast<Allocation*>(handle); }

CUresult get_error_string(CUresult result, const char** text) {
  *text = result == CUDA_ERROR_OUT_OF_MEMORY   ? "out of memory"
          : result == CUDA_ERROR_NOT_SUPPORTED ? "operation not supported"
                                               : "an error of the software GPU";
  return CUDA_SUCCESS;
}
CUresult device_get_attribute(int* value, CUdevice_attribute attribute, CUdevice) {
  *value = attribute != CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED;
  return CUDA_SUCCESS;
}
CUresult device_primary_ctx_retain(CUcontext* context, CUdevice device) {
  start_device(device);
  *context = reinterpret_cast<CUcontext>(static_cast<std::uintptr_t>(device) + 1);
  return CUDA_SUCCESS;
}
CUresult ctx_push_current(CUcontext context) {
  pushed_devices.push_back(current_device());
  set_current_device(static_cast<int>(reinterpret_cast<std::uintptr_t>(context)) - 1);
  return CUDA_SUCCESS;
}
CUresult ctx_pop_current(CUcontext* context) {
  *context = nullptr;
  set_current_device(pushed_devices.back());
  pushed_devices.pop_back();
  return CUDA_SUCCESS;
}
CUresult device_primary_ctx_get_state(CUdevice device, unsigned* flags, int* active) {
  *flags = 0;
  *active = is_started(device) ? 1 : 0;
  return CUDA_SUCCESS;
}
CUresult mem_get_allocation_granularity(std::size_t* granularity, const CUmemAllocationProp*,
                                        CUmemAllocationGranularity_flags) {
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}
CUresult mem_create(CUmemGenericAllocationHandle* handle, std::size_t num_bytes, const CUmemAllocationProp* properties,
                    unsigned long long) {
  if (properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_FABRIC) return CUDA_ERROR_NOT_SUPPORTED;
  if (!take_bytes(properties->location.id, num_bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  const int fd = memfd_create("software-gpu-virtual", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(num_bytes)) != 0) {
    give_bytes_back(properties->location.id, num_bytes);
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  *handle = reinterpret_cast<CUmemGenericAllocationHandle>(new Allocation{fd, num_bytes, properties->location.id, true, 1});
  return CUDA_SUCCESS;
}
CUresult mem_release(CUmemGenericAllocationHandle handle) {
  const std::lock_guard lock(mutex);
  let_go(allocation_of(handle));
  return CUDA_SUCCESS;
}
CUresult mem_address_reserve(CUdeviceptr* address, std::size_t num_bytes, std::size_t, CUdeviceptr, unsigned long long) {
  void* reserved = mmap(nullptr, num_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = reinterpret_cast<CUdeviceptr>(reserved);
  const std::lock_guard lock(mutex);
  reservations()[*address] = nullptr;
  return CUDA_SUCCESS;
}
CUresult mem_address_free(CUdeviceptr address, std::size_t num_bytes) {
  const std::lock_guard lock(mutex);
  reservations().erase(address);  // before somebody else gets the address
  munmap(reinterpret_cast<void*>(address), num_bytes);
  return CUDA_SUCCESS;
}
CUresult mem_map(CUdeviceptr address, std::size_t num_bytes, std::size_t, CUmemGenericAllocationHandle handle,
                 unsigned long long) {
  Allocation* allocation = allocation_of(handle);
  if (num_bytes != allocation->num_bytes) return CUDA_ERROR_INVALID_VALUE;
  void* at = reinterpret_cast<void*>(address);
  if (mmap(at, num_bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, allocation->fd, 0) != at) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::lock_guard lock(mutex);
  reservations()[address] = allocation;
  ++allocation->num_uses;
  return CUDA_SUCCESS;
}
CUresult mem_set_access(CUdeviceptr address, std::size_t num_bytes, const CUmemAccessDesc*, std::size_t) {
  void* at = reinterpret_cast<void*>(address);
  if (mprotect(at, num_bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(mutex);
  add_range(at, num_bytes, {MemoryKind::kDevice, reservations()[address]->device});
  return CUDA_SUCCESS;
}
CUresult mem_unmap(CUdeviceptr address, std::size_t num_bytes) {
  void* at = reinterpret_cast<void*>(address);
  mmap(at, num_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  remove_range(at);
  const std::lock_guard lock(mutex);
  let_go(std::exchange(reservations()[address], nullptr));
  return CUDA_SUCCESS;
}
CUresult mem_export(void* target, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type, unsigned long long) {
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  const int fd = fcntl(allocation_of(handle)->fd, F_DUPFD_CLOEXEC, 0);
  std::memcpy(target, &fd, sizeof(fd));
  return fd >= 0 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}
CUresult mem_import(CUmemGenericAllocationHandle* handle, void* source, CUmemAllocationHandleType type) {
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  const int fd = fcntl(static_cast<int>(reinterpret_cast<std::uintptr_t>(source)), F_DUPFD_CLOEXEC, 0);
  struct stat status{};
  if (fd < 0 || fstat(fd, &status) != 0) return CUDA_ERROR_INVALID_VALUE;
  *handle = reinterpret_cast<CUmemGenericAllocationHandle>(
      new Allocation{fd, static_cast<std::size_t>(status.st_size), current_device(), false, 1});
  return CUDA_SUCCESS;
}
CUresult stream_wait_value64(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned) {
  enqueue(stream, [=] {
    const auto* word = reinterpret_cast<const std::uint64_t*>(address);
    while (static_cast<std::int64_t>(__atomic_load_n(word, __ATOMIC_ACQUIRE) - value) < 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  });
  return CUDA_SUCCESS;
}

CUresult stream_write_value64(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned) {
  enqueue(stream, [=] { __atomic_store_n(reinterpret_cast<std::uint64_t*>(address), value, __ATOMIC_RELEASE); });
  return CUDA_SUCCESS;
}

const std::map<std::string_view, void*>& driver_functions() {
  static const auto* const functions = new std::map<std::string_view, void*>{
      {"cuGetErrorString", reinterpret_cast<void*>(get_error_string)},
      {"cuDeviceGetAttribute", reinterpret_cast<void*>(device_get_attribute)},
      {"cuDevicePrimaryCtxRetain", reinterpret_cast<void*>(device_primary_ctx_retain)},
      {"cuDevicePrimaryCtxGetState", reinterpret_cast<void*>(device_primary_ctx_get_state)},
      {"cuCtxPushCurrent", reinterpret_cast<void*>(ctx_push_current)},
      {"cuCtxPopCurrent", reinterpret_cast<void*>(ctx_pop_current)},
      {"cuMemGetAllocationGranularity", reinterpret_cast<void*>(mem_get_allocation_granularity)},
      {"cuMemCreate", reinterpret_cast<void*>(mem_create)},
      {"cuMemRelease", reinterpret_cast<void*>(mem_release)},
      {"cuMemAddressReserve", reinterpret_cast<void*>(mem_address_reserve)},
      {"cuMemAddressFree", reinterpret_cast<void*>(mem_address_free)},
      {"cuMemMap", reinterpret_cast<void*>(mem_map)},
      {"cuMemUnmap", reinterpret_cast<void*>(mem_unmap)},
      {"cuMemSetAccess", reinterpret_cast<void*>(mem_set_access)},
      {"cuMemExportToShareableHandle", reinterpret_cast<void*>(mem_export)},
      {"cuMemImportFromShareableHandle", reinterpret_cast<void*>(mem_import)},
      {"cuStreamWaitValue64", reinterpret_cast<void*>(stream_wait_value64)},
      {"cuStreamWriteValue64", reinterpret_cast<void*>(stream_write_value64)},
  };
  return *functions;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const auto found = driver_functions().find(name);
  *function = found == driver_functions().end() ? nullptr : found->second;
  if (result != nullptr) *result = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
