// A build without CUDA makes no groups on GPUs, so it never comes here.
#include "base/fail.hpp"
#include "group/device_verbs.hpp"

namespace tokenyard {

std::size_t device_window_bytes(std::size_t num_bytes, int) { return num_bytes; }

std::unique_ptr<DeviceVerbs> make_device_verbs(const Peers&, const std::vector<std::shared_ptr<MemoryRegion>>&, std::size_t) {
  fail(ErrorCode::kUnsupported, "this build of Tokenyard has no CUDA, so windows lie in host memory");
}

}  // namespace tokenyard
