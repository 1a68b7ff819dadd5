#include "cli/doctor/cuda_driver.hpp"

#include <dlfcn.h>
#include <fmt/core.h>

#include <array>

namespace tokenyard::cli {
namespace {

// As NVIDIA's driver API documents them.
using Result = int;
using Device = int;
constexpr Result kSuccess = 0;
constexpr int kMultiprocessorCount = 16;
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;

struct Calls {
  Result (*init)(unsigned int flags);
  Result (*driver_version)(int* version);
  Result (*device_count)(int* count);
  Result (*device_get)(Device* device, int ordinal);
  Result (*device_name)(char* name, int num_bytes, Device device);
  Result (*device_memory)(std::size_t* num_bytes, Device device);
  Result (*device_attribute)(int* value, int attribute, Device device);
  Result (*can_access_peer)(int* can, Device device, Device peer);
  Result (*error_name)(Result result, const char** name);
  Result (*error_text)(Result result, const char** text);
};

class LoadedCudaDriver final : public CudaDriver {
 public:
  explicit LoadedCudaDriver(const Calls& calls) : calls_(calls) {}

  std::string initialize() override { return text_of(calls_.init(0)); }

  std::string list_gpus(std::vector<Gpu>& gpus) override {
    int num_gpus = 0;
    if (const Result result = calls_.device_count(&num_gpus); result != kSuccess) return text_of(result);
    for (int ordinal = 0; ordinal < num_gpus; ++ordinal) {
      Device device = 0;
      std::array<char, 256> name{};
      Gpu gpu;
      for (const Result result :
           {calls_.device_get(&device, ordinal), calls_.device_name(name.data(), static_cast<int>(name.size()) - 1, device),
            calls_.device_memory(&gpu.memory_bytes, device),
            calls_.device_attribute(&gpu.major, kComputeCapabilityMajor, device),
            calls_.device_attribute(&gpu.minor, kComputeCapabilityMinor, device),
            calls_.device_attribute(&gpu.num_multiprocessors, kMultiprocessorCount, device)}) {
        if (result != kSuccess) return fmt::format("GPU {}: {}", ordinal, text_of(result));
      }
      gpu.name = name.data();
      gpus.push_back(std::move(gpu));
    }
    return {};
  }

  std::string can_access(int gpu, int peer, bool& can) override {
    int answer = 0;
    Device device = 0;
    Device peer_device = 0;
    for (const Result result : {calls_.device_get(&device, gpu), calls_.device_get(&peer_device, peer),
                                calls_.can_access_peer(&answer, device, peer_device)}) {
      if (result != kSuccess) return text_of(result);
    }
    can = answer != 0;
    return {};
  }

  int cuda_version() override {
    int version = 0;
    return calls_.driver_version(&version) == kSuccess ? version : 0;
  }

 private:
  std::string text_of(Result result) const {
    if (result == kSuccess) return {};
    const char* name = nullptr;
    const char* text = nullptr;
    calls_.error_name(result, &name);
    calls_.error_text(result, &text);
    return fmt::format("{} ({}): {}", name == nullptr ? "error" : name, result, text == nullptr ? "unknown" : text);
  }

  Calls calls_;
};

template <class Call>
bool find(void* library, const char* name, Call& call) {
  call = reinterpret_cast<Call>(dlsym(library, name));
  return call != nullptr;
}

}  // namespace

std::unique_ptr<CudaDriver> CudaDriver::load(std::string& problem) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  Calls calls{};
  const bool is_complete =
      library != nullptr && find(library, "cuInit", calls.init) && find(library, "cuDriverGetVersion", calls.driver_version) &&
      find(library, "cuDeviceGetCount", calls.device_count) && find(library, "cuDeviceGet", calls.device_get) &&
      find(library, "cuDeviceGetName", calls.device_name) && find(library, "cuDeviceTotalMem_v2", calls.device_memory) &&
      find(library, "cuDeviceGetAttribute", calls.device_attribute) &&
      find(library, "cuDeviceCanAccessPeer", calls.can_access_peer) && find(library, "cuGetErrorName", calls.error_name) &&
      find(library, "cuGetErrorString", calls.error_text);
  if (!is_complete) {
    const char* text = dlerror();
    problem = text == nullptr ? "libcuda.so.1 cannot be loaded" : text;
    return nullptr;
  }
  return std::make_unique<LoadedCudaDriver>(calls);
}

}  // namespace tokenyard::cli
