#include "memory/device_memory.hpp"

#include <mutex>
#include <utility>
#include <vector>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "memory/current_device.hpp"
#include "memory/gpus.hpp"
#include "memory/ipc_memory.hpp"
#include "memory/side_stream.hpp"
#include "memory/virtual_memory.hpp"

namespace tokenyard {
namespace {

// What nobody here uses any more, and peers still may.
struct Kept {
  std::mutex mutex;
  std::vector<std::shared_ptr<DeviceAllocation>> allocations;
};

// Never destroyed: CUDA may be gone by the time the process ends.
Kept& kept() {
  static auto* const store = new Kept;
  return *store;
}

// Not by a thread of its own: freeing may wait for kernels, and whoever takes memory has chosen a moment when that is harmless.
void free_what_peers_let_go() {
  std::vector<std::shared_ptr<DeviceAllocation>> freed;  // outside of the lock: it may take a while
  const std::lock_guard lock(kept().mutex);
  std::vector<std::shared_ptr<DeviceAllocation>> held;
  for (auto& allocation : kept().allocations) (allocation->is_held() ? held : freed).push_back(std::move(allocation));
  kept().allocations = std::move(held);
}

void zero(std::byte* data, std::size_t num_bytes, int device) {
  const CurrentDevice current(device);
  check_cuda(cudaMemsetAsync(data, 0, num_bytes, side_stream()), "cudaMemsetAsync");
  check_cuda(cudaStreamSynchronize(side_stream()), "cudaStreamSynchronize");
}

}  // namespace

std::shared_ptr<DeviceMemory> DeviceMemory::allocate(std::size_t num_bytes, int device, std::span<const int> users,
                                                     HandleKind kind) {
  check_device(device);
  for (const int user : users) {
    const PeerAccess access = peer_access(user, device);
    if (!access.is_possible) fail(ErrorCode::kUnsupported, "{}", access.reason);
  }
  free_what_peers_let_go();
  const bool is_plain = kind == HandleKind::kIpc || (kind == HandleKind::kNone && !has_virtual_memory(device));
  auto allocation = is_plain ? make_ipc_memory(num_bytes, device, users) : make_virtual_memory(num_bytes, device, users, kind);
  zero(allocation->data(), num_bytes, device);
  return std::shared_ptr<DeviceMemory>(new DeviceMemory(std::move(allocation), num_bytes));
}

std::shared_ptr<DeviceMemory> DeviceMemory::import(const MemoryHandle& handle, std::size_t num_bytes, int device) {
  check_device(device);
  const auto* const ipc = std::get_if<IpcHandle>(&handle);
  auto allocation = ipc != nullptr ? map_ipc_memory(*ipc, device) : map_virtual_memory(handle, num_bytes, device);
  return std::shared_ptr<DeviceMemory>(new DeviceMemory(std::move(allocation), num_bytes));
}

MemoryHandle DeviceMemory::export_handle() const { return allocation_->export_handle(); }

std::byte* DeviceMemory::data() const noexcept { return allocation_->data(); }

DeviceMemory::~DeviceMemory() {
  if (!allocation_->is_held()) return;
  const std::lock_guard lock(kept().mutex);
  kept().allocations.push_back(std::move(allocation_));
}

}  // namespace tokenyard
