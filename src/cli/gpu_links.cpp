#include "cli/gpu_links.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "base/cuda_error.hpp"
#include "cli/gpu_line_up.hpp"
#include "cli/gpu_memory.hpp"
#include "cli/statistics.hpp"
#include "memory/handle_offers.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{256} << 20;
constexpr int kNumCopies = 8;  // in a row, so that the beginning does not count
constexpr int kNumLaunches = 1000;
constexpr int kNumTrips = 1000;
constexpr int kNumRepetitions = 3;

void select(int device) { check_cuda(cudaSetDevice(device), "cudaSetDevice"); }

// One GPU as a place for measurements.
class Gpu {
 public:
  explicit Gpu(int device) : device_(device) {
    select(device);
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (Event* event : {&begin_, &end_}) check_cuda(cudaEventCreate(event), "cudaEventCreate");
    load_line_up();
    source_ = GpuMemory(kCopyBytes);
    target_ = GpuMemory(kCopyBytes);
    check_cuda(cudaMemset(source_.data(), 0, kCopyBytes), "cudaMemset");
    check_cuda(cudaGetDeviceProperties(&properties_, device), "cudaGetDeviceProperties");
  }
  ~Gpu() {
    cudaSetDevice(device_);
    for (Event event : {begin_, end_}) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  int device() const { return device_; }
  Stream stream() const { return stream_; }
  std::byte* source() const { return source_.data(); }
  std::byte* target() const { return target_.data(); }
  const cudaDeviceProp& properties() const { return properties_; }

  // Around work in the stream; elapsed() waits for its end.
  void begin() const { check_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord"); }
  void end() const { check_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord"); }
  double elapsed_microseconds() const {
    check_cuda(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return milliseconds * 1e3;
  }

 private:
  int device_;
  Stream stream_ = nullptr;
  Event begin_ = nullptr;
  Event end_ = nullptr;
  GpuMemory source_;
  GpuMemory target_;
  cudaDeviceProp properties_{};
};

// The median of what `measure` returns, after a first time that does not count.
double median_of(const std::function<double()>& measure) {
  std::vector<double> values;
  for (int i = -1; i < kNumRepetitions; ++i) {
    const double value = measure();
    if (i >= 0) values.push_back(value);
  }
  return percentile(values, 50);
}

void enqueue_copies(const Gpu& from, const Gpu& to) {
  select(from.device());
  from.begin();
  for (int i = 0; i < kNumCopies; ++i) {
    check_cuda(cudaMemcpyPeerAsync(to.target(), to.device(), from.source(), from.device(), kCopyBytes, from.stream()),
               "cudaMemcpyPeerAsync");
  }
  from.end();
}

double rate_of(double microseconds) { return static_cast<double>(kCopyBytes) * kNumCopies / microseconds * 1e-3; }

double one_way_rate(const Gpu& from, const Gpu& to) {
  return rate_of(median_of([&] {
    enqueue_copies(from, to);
    return from.elapsed_microseconds();
  }));
}

double both_ways_rate(const Gpu& one, const Gpu& other) {
  return rate_of(median_of([&] {
    enqueue_copies(one, other);
    enqueue_copies(other, one);
    return std::max(one.elapsed_microseconds(), other.elapsed_microseconds());
  }));
}

double launch_microseconds(const Gpu& gpu) {
  select(gpu.device());
  return median_of([&] {
           gpu.begin();
           for (int i = 0; i < kNumLaunches; ++i) enqueue_nothing(gpu.stream());
           gpu.end();
           return gpu.elapsed_microseconds();
         }) /
         kNumLaunches;
}

double graph_launch_microseconds(const Gpu& gpu) {
  select(gpu.device());
  check_cuda(cudaStreamBeginCapture(gpu.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  for (int i = 0; i < kNumLaunches; ++i) enqueue_nothing(gpu.stream());
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(gpu.stream(), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  const double microseconds = median_of([&] {
    gpu.begin();
    check_cuda(cudaGraphLaunch(executable, gpu.stream()), "cudaGraphLaunch");
    gpu.end();
    return gpu.elapsed_microseconds();
  });
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  return microseconds / kNumLaunches;
}

// A word there and back, between kernels that wait for each other.
double round_trip_microseconds(const Gpu& one, const Gpu& other) {
  auto* const one_word = reinterpret_cast<std::uint64_t*>(one.target());
  auto* const other_word = reinterpret_cast<std::uint64_t*>(other.target());
  return median_of([&] {
           for (const Gpu* gpu : {&one, &other}) {
             select(gpu->device());
             check_cuda(cudaMemsetAsync(gpu->target(), 0, sizeof(std::uint64_t), gpu->stream()), "cudaMemsetAsync");
             check_cuda(cudaStreamSynchronize(gpu->stream()), "cudaStreamSynchronize");
           }
           select(other.device());
           enqueue_round_trips(other_word, one_word, kNumTrips, false, other.stream());
           select(one.device());
           one.begin();
           enqueue_round_trips(one_word, other_word, kNumTrips, true, one.stream());
           one.end();
           const double microseconds = one.elapsed_microseconds();
           check_cuda(cudaStreamSynchronize(other.stream()), "cudaStreamSynchronize");
           return microseconds;
         }) /
         kNumTrips;
}

bool has_attribute(cudaDeviceP2PAttr attribute, int device, int owner) {
  int value = 0;
  check_cuda(cudaDeviceGetP2PAttribute(&value, attribute, device, owner), "cudaDeviceGetP2PAttribute");
  return value != 0;
}

bool reaches(int device, int owner) { return has_attribute(cudaDevP2PAttrAccessSupported, device, owner); }

void enable_access(int device, int owner) {
  select(device);
  const cudaError_t result = cudaDeviceEnablePeerAccess(owner, 0);
  if (result == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();  // which keeps it
    return;
  }
  check_cuda(result, "cudaDeviceEnablePeerAccess");
}

// Copies without peer access go through the host: their rate is shown all the same.
Record measure_pair(const Gpu& from, const Gpu& to) {
  const bool is_reachable = reaches(from.device(), to.device());
  const bool is_mutual = is_reachable && reaches(to.device(), from.device());
  const bool has_atomics = has_attribute(cudaDevP2PAttrNativeAtomicSupported, from.device(), to.device());
  return {
      {"from", from.device()},
      {"to", to.device()},
      {"reaches", is_reachable},
      {"atomics", has_atomics},
      {"one_way_gb_per_s", one_way_rate(from, to)},
      {"both_ways_gb_per_s", both_ways_rate(from, to)},
      {"round_trip_us", is_mutual ? Value(round_trip_microseconds(from, to)) : Value()},
      {"remark", is_reachable ? ""
                              : "no peer access: no NVLink, PCIe peer traffic turned off by the platform or an IOMMU, or GPUs "
                                "of different kinds; nvidia-smi topo -p2p r says which"}};
}

}  // namespace

GpuLinks measure_gpu_links() {
  int num_gpus = 0;
  check_cuda(cudaGetDeviceCount(&num_gpus), "cudaGetDeviceCount");
  if (num_gpus == 0) check_cuda(cudaErrorNoDevice, "cudaGetDeviceCount");
  std::vector<std::unique_ptr<Gpu>> gpus;
  for (int device = 0; device < num_gpus; ++device) gpus.push_back(std::make_unique<Gpu>(device));
  for (int device = 0; device < num_gpus; ++device) {
    for (int owner = 0; owner < num_gpus; ++owner) {
      if (device != owner && reaches(device, owner)) enable_access(device, owner);
    }
  }
  GpuLinks links;
  for (const auto& gpu : gpus) {
    links.gpus.push_back({{"gpu", gpu->device()},
                          {"name", gpu->properties().name},
                          {"compute_capability", fmt::format("{}.{}", gpu->properties().major, gpu->properties().minor)},
                          {"sms", gpu->properties().multiProcessorCount},
                          {"memory_bytes", gpu->properties().totalGlobalMem},
                          {"local_copy_gb_per_s", one_way_rate(*gpu, *gpu)},
                          {"launch_us", launch_microseconds(*gpu)},
                          {"launch_in_graph_us", graph_launch_microseconds(*gpu)}});
    for (const HandleOffer& offer : handle_offers(gpu->device())) {
      links.handles.push_back({{"gpu", gpu->device()},
                               {"handle", to_string(offer.kind)},
                               {"works", offer.is_offered()},
                               {"remark", offer.obstacle}});
    }
  }
  for (const auto& from : gpus) {
    for (const auto& to : gpus) {
      if (from != to) links.pairs.push_back(measure_pair(*from, *to));
    }
  }
  return links;
}

}  // namespace tokenyard::cli
