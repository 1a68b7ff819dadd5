// The functions of the CUDA driver that the runtime does not offer. They are looked up when first asked for, so that the
// program also starts where there is no driver.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include <string>

namespace tokenyard {

struct CudaDriver {
  PFN_cuGetErrorString_v6000 get_error_string;
  PFN_cuDeviceGetAttribute_v2000 device_get_attribute;
  PFN_cuDevicePrimaryCtxRetain_v7000 device_primary_ctx_retain;
  PFN_cuCtxPushCurrent_v4000 ctx_push_current;
  PFN_cuCtxPopCurrent_v4000 ctx_pop_current;
  PFN_cuMemGetAllocationGranularity_v10020 mem_get_allocation_granularity;
  PFN_cuMemCreate_v10020 mem_create;
  PFN_cuMemRelease_v10020 mem_release;
  PFN_cuMemAddressReserve_v10020 mem_address_reserve;
  PFN_cuMemAddressFree_v10020 mem_address_free;
  PFN_cuMemMap_v10020 mem_map;
  PFN_cuMemUnmap_v10020 mem_unmap;
  PFN_cuMemSetAccess_v10020 mem_set_access;
  PFN_cuMemExportToShareableHandle_v10020 mem_export_to_shareable_handle;
  PFN_cuMemImportFromShareableHandle_v10020 mem_import_from_shareable_handle;
  PFN_cuStreamWaitValue64_v11070 stream_wait_value64;
  PFN_cuStreamWriteValue64_v11070 stream_write_value64;
};

// Throws Error(kUnsupported) if there is no driver, or one that lacks a function. Every call tries again.
const CudaDriver& cuda_driver();

// Any function of the driver, as CUDA 12.4 has it. Throws as cuda_driver().
void* driver_function(const char* name);

// `call` names what returned `result`; throws Error(kSystem or kUnsupported) unless that is success.
void check_driver(CUresult result, const char* call);

// What the driver says of a call that failed, in a text.
std::string driver_text(const char* call, CUresult result);

// Whether the driver says yes of the device.
bool has_attribute(int device, CUdevice_attribute attribute);

}  // namespace tokenyard
