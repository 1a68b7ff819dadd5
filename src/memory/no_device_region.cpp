// What a build without CUDA says where memory of GPUs is asked for.
#include "base/fail.hpp"
#include "memory/device_region.hpp"
#include "memory/gpus.hpp"
#include "memory/handle_offers.hpp"

namespace tokenyard {
namespace {

[[noreturn]] void fail_without_cuda() {
  fail(ErrorCode::kUnsupported,
       "this build of Tokenyard has no CUDA, so ranks live in host memory: leave GroupOptions::device unset, or build where "
       "nvcc "
       "is installed, with -DTOKENYARD_CUDA=ON");
}

}  // namespace

int num_devices() { fail_without_cuda(); }
void check_device(int) { fail_without_cuda(); }
GpuDescription describe_gpu(int) { fail_without_cuda(); }
PeerAccess peer_access(int, int) { fail_without_cuda(); }
int find_device(const GpuId&) { fail_without_cuda(); }
HandleCapabilities handle_capabilities(int) { fail_without_cuda(); }
HandleOffers handle_offers(int) { fail_without_cuda(); }

std::shared_ptr<MemoryRegion> make_device_region(std::size_t, const MemoryPlace&) { fail_without_cuda(); }
std::shared_ptr<MemoryRegion> make_shareable_device_region(std::size_t, const MemoryPlace&) { fail_without_cuda(); }
std::shared_ptr<MemoryRegion> map_device_region(const MemoryHandle&, std::size_t, const MemoryPlace&) { fail_without_cuda(); }
std::shared_ptr<std::byte> register_host_memory(std::byte*, std::size_t, int) { fail_without_cuda(); }

}  // namespace tokenyard
