#include "memory/ipc_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "memory/current_device.hpp"

namespace tokenyard {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(HandleBytes));

// Smaller pieces may share a block with other memory of the process, and a handle opens the whole block: peers would see what
// is none of their business, and find their own memory at an offset.
constexpr std::size_t kBlockBytes = std::size_t{2} << 20;
// Of whole blocks CUDA promises less than it does.
constexpr std::uintptr_t kAlignment = 4096;

class IpcMemory;

// What this process has exported and not freed yet.
struct OwnExports {
  std::mutex mutex;
  std::map<HandleBytes, std::weak_ptr<IpcMemory>> by_handle;
};

// Never destroyed: memory may be let go of while the process ends.
OwnExports& own_exports() {
  static auto* const exports = new OwnExports;
  return *exports;
}

// Lets kernels of `user` load and store all memory that cudaMalloc takes on `owner`.
void let_reach(int user, int owner) {
  if (user == owner) return;
  const CurrentDevice current(user);
  const cudaError_t result = cudaDeviceEnablePeerAccess(owner, 0);
  if (result == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();  // which keeps it
    return;
  }
  check_cuda(result, "cudaDeviceEnablePeerAccess");
}

class IpcMemory final : public DeviceAllocation, public std::enable_shared_from_this<IpcMemory> {
 public:
  IpcMemory(std::size_t num_bytes, int device) : device_(device) {
    const CurrentDevice current(device);
    void* data = nullptr;
    check_cuda(cudaMalloc(&data, (std::max<std::size_t>(num_bytes, 1) + kBlockBytes - 1) / kBlockBytes * kBlockBytes),
               "cudaMalloc");
    data_ = static_cast<std::byte*>(data);
  }
  void check_alignment() const {
    const std::uintptr_t excess = reinterpret_cast<std::uintptr_t>(data_) % kAlignment;
    if (excess != 0) fail(ErrorCode::kSystem, "cudaMalloc put a block of memory {} bytes behind a page", excess);
  }
  ~IpcMemory() override {
    if (bytes_.has_value()) {
      const std::lock_guard lock(own_exports().mutex);
      own_exports().by_handle.erase(*bytes_);
    }
    const CurrentDevice current(device_, std::nothrow);
    cudaFree(data_);
  }

  int device() const noexcept { return device_; }

  MemoryHandle export_handle() override {
    IpcHandle handle{.lease = lease_.hand_out()};
    const std::lock_guard lock(own_exports().mutex);
    if (!bytes_.has_value()) {
      const CurrentDevice current(device_);
      cudaIpcMemHandle_t made{};
      check_cuda(cudaIpcGetMemHandle(&made, data_), "cudaIpcGetMemHandle");
      std::memcpy(handle.bytes.data(), &made, sizeof(made));
      own_exports().by_handle[handle.bytes] = weak_from_this();
      bytes_ = handle.bytes;
    }
    handle.bytes = *bytes_;
    return handle;
  }

 private:
  int device_;
  std::optional<HandleBytes> bytes_{};  // once it was exported
};

// Memory of another process.
class IpcMapping final : public DeviceAllocation {
 public:
  IpcMapping(const IpcHandle& handle, int device) : device_(device), lease_of_owner_(copy_of(handle.lease)) {
    const CurrentDevice current(device);
    cudaIpcMemHandle_t bytes{};
    std::memcpy(&bytes, handle.bytes.data(), sizeof(bytes));
    void* data = nullptr;
    const cudaError_t result = cudaIpcOpenMemHandle(&data, bytes, cudaIpcMemLazyEnablePeerAccess);
    if (result != cudaSuccess) {
      cudaGetLastError();  // which keeps it
      fail(ErrorCode::kSystem,
           "cudaIpcOpenMemHandle failed: {} ({}, {}); a container may keep its processes from opening each other's memory, and "
           "containers must share their IPC and PID namespaces with the peers'",
           cudaGetErrorString(result), cudaGetErrorName(result), static_cast<int>(result));
    }
    data_ = static_cast<std::byte*>(data);
  }
  // The lease closes behind CUDA's mapping: only then may the owner free the memory.
  ~IpcMapping() override {
    const CurrentDevice current(device_, std::nothrow);
    cudaIpcCloseMemHandle(data_);
  }

  MemoryHandle export_handle() override {
    fail(ErrorCode::kUnsupported, "this memory cannot be passed to another process: it was imported itself");
  }

 private:
  int device_;
  FileDescriptor lease_of_owner_;
};

// What this process exported by the handle; it is there as long as the handle's lease is open.
std::shared_ptr<IpcMemory> find_own(const IpcHandle& handle) {
  const std::lock_guard lock(own_exports().mutex);
  const auto found = own_exports().by_handle.find(handle.bytes);
  return found == own_exports().by_handle.end() ? nullptr : found->second.lock();
}

}  // namespace

std::shared_ptr<DeviceAllocation> make_ipc_memory(std::size_t num_bytes, int device, std::span<const int> users) {
  auto memory = std::make_shared<IpcMemory>(num_bytes, device);
  memory->check_alignment();
  for (const int user : users) let_reach(user, device);
  return memory;
}

std::shared_ptr<DeviceAllocation> map_ipc_memory(const IpcHandle& handle, int device) {
  if (const auto own = find_own(handle)) {
    let_reach(device, own->device());
    return own;
  }
  return std::make_shared<IpcMapping>(handle, device);
}

}  // namespace tokenyard
