#include "memory/cuda_driver.hpp"

#include "base/cuda_error.hpp"
#include "base/fail.hpp"

namespace tokenyard {
namespace {

template <class Function>
void find(Function* function, const char* name) {
  *function = reinterpret_cast<Function>(driver_function(name));
}

CudaDriver load() {
  CudaDriver driver{};
  find(&driver.get_error_string, "cuGetErrorString");
  find(&driver.device_get_attribute, "cuDeviceGetAttribute");
  find(&driver.device_primary_ctx_retain, "cuDevicePrimaryCtxRetain");
  find(&driver.ctx_push_current, "cuCtxPushCurrent");
  find(&driver.ctx_pop_current, "cuCtxPopCurrent");
  find(&driver.mem_get_allocation_granularity, "cuMemGetAllocationGranularity");
  find(&driver.mem_create, "cuMemCreate");
  find(&driver.mem_release, "cuMemRelease");
  find(&driver.mem_address_reserve, "cuMemAddressReserve");
  find(&driver.mem_address_free, "cuMemAddressFree");
  find(&driver.mem_map, "cuMemMap");
  find(&driver.mem_unmap, "cuMemUnmap");
  find(&driver.mem_set_access, "cuMemSetAccess");
  find(&driver.mem_export_to_shareable_handle, "cuMemExportToShareableHandle");
  find(&driver.mem_import_from_shareable_handle, "cuMemImportFromShareableHandle");
  find(&driver.stream_wait_value64, "cuStreamWaitValue64");
  find(&driver.stream_write_value64, "cuStreamWriteValue64");
  return driver;
}

const char* advice_for(CUresult result) {
  switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY: return "the GPU's memory is full: make the plan smaller, or end what else runs there";
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_NOT_PERMITTED:
      return "this driver, or the container that it runs in, does not allow it; ranks that are threads of one process need it "
             "less";
    case CUDA_ERROR_INVALID_VALUE: return "the peer may have shared memory of another size, or run another version";
    default: return "the error may come from an earlier call on this device";
  }
}

}  // namespace

// 12.4 is the oldest driver that is supported; newer ones keep its interfaces. Before 12.5 the runtime finds those of its own
// version.
void* driver_function(const char* name) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion(name, &address, 12'040, cudaEnableDefault, &status),
             "cudaGetDriverEntryPointByVersion");
#else
  check_cuda(cudaGetDriverEntryPoint(name, &address, cudaEnableDefault, &status), "cudaGetDriverEntryPoint");
#endif
  if (status != cudaDriverEntryPointSuccess || address == nullptr) {
    fail(ErrorCode::kUnsupported, "the NVIDIA driver has no {}: install the driver of CUDA 12.4 or a newer one", name);
  }
  return address;
}

const CudaDriver& cuda_driver() {
  static const CudaDriver driver = load();
  return driver;
}

void check_driver(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  const bool is_missing = result == CUDA_ERROR_NOT_SUPPORTED;
  fail(is_missing ? ErrorCode::kUnsupported : ErrorCode::kSystem, "{}; {}", driver_text(call, result), advice_for(result));
}

std::string driver_text(const char* call, CUresult result) {
  const char* reason = nullptr;
  if (cuda_driver().get_error_string(result, &reason) != CUDA_SUCCESS) reason = "an error unknown to the driver";
  return fmt::format("{} failed: {} ({})", call, reason, static_cast<int>(result));
}

bool has_attribute(int device, CUdevice_attribute attribute) {
  int value = 0;
  check_driver(cuda_driver().device_get_attribute(&value, attribute, device), "cuDeviceGetAttribute");
  return value != 0;
}

}  // namespace tokenyard
