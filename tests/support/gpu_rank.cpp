#include "tests/support/gpu_rank.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/cuda_error.hpp"
#include "kernels/cuda/delays.hpp"
#include "tests/kernels/cuda/device_array.hpp"

namespace tokenyard::test {
namespace {

// Streams that share a connection wait for each other's kernels, and those wait for other ranks.
const bool kHasConnections = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0;

constexpr std::size_t kPinnedBytes = std::size_t{64} << 20;
constexpr std::size_t kDeviceBytes = std::size_t{3} << 30;
constexpr std::size_t kStagingBytes = std::size_t{4} << 20;

}  // namespace

GpuRank::GpuRank(int rank) : device_(rank % count_gpus()) {
  select();
  int major = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_), "cudaDeviceGetAttribute");
  has_bulk_copies_ = major >= 9;
  for (cudaStream_t* stream : {&stream_, &other_stream_, &copy_stream_}) {
    check_cuda(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  for (cudaEvent_t* event : {&event_before_, &event_behind_}) {
    check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  check_cuda(cudaHostAlloc(&pinned_memory_, kPinnedBytes, cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  check_cuda(cudaHostAlloc(&staging_, kStagingBytes, cudaHostAllocPortable), "cudaHostAlloc");
  check_cuda(cudaMalloc(&device_memory_, kDeviceBytes), "cudaMalloc");
  pinned_ = std::make_unique<Arena>(static_cast<std::byte*>(pinned_memory_), kPinnedBytes);
  on_device_ = std::make_unique<Arena>(static_cast<std::byte*>(device_memory_), kDeviceBytes);
}

GpuRank::~GpuRank() {
  cudaSetDevice(device_);
  for (const cudaStream_t stream : {stream_, other_stream_, copy_stream_}) cudaStreamDestroy(stream);
  for (const cudaEvent_t event : {event_before_, event_behind_}) cudaEventDestroy(event);
  cudaFreeHost(pinned_memory_);
  cudaFreeHost(staging_);
  cudaFree(device_memory_);
}

void GpuRank::select() const { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

void GpuRank::delay_kernels(std::uint64_t seed) const {
  select();
  cuda::set_kernel_delays(seed);
}

void GpuRank::copy_to_device(std::byte* to, const std::byte* from, std::size_t num_bytes) {
  for (std::size_t done = 0; done < num_bytes; done += kStagingBytes) {
    const std::size_t chunk_bytes = std::min(kStagingBytes, num_bytes - done);
    std::memcpy(staging_, from + done, chunk_bytes);
    check_cuda(cudaMemcpyAsync(to + done, staging_, chunk_bytes, cudaMemcpyHostToDevice, copy_stream_), "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(copy_stream_), "cudaStreamSynchronize");
  }
}

void GpuRank::copy_to_host(std::byte* to, const std::byte* from, std::size_t num_bytes) {
  for (std::size_t done = 0; done < num_bytes; done += kStagingBytes) {
    const std::size_t chunk_bytes = std::min(kStagingBytes, num_bytes - done);
    check_cuda(cudaMemcpyAsync(staging_, from + done, chunk_bytes, cudaMemcpyDeviceToHost, copy_stream_), "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(copy_stream_), "cudaStreamSynchronize");
    std::memcpy(to + done, staging_, chunk_bytes);
  }
}

void GpuRank::finish() const {
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  check_cuda(cudaStreamSynchronize(other_stream_), "cudaStreamSynchronize");
}

const std::vector<std::unique_ptr<GpuRank>>& gpu_ranks(int num_ranks) {
  static std::vector<std::unique_ptr<GpuRank>> ranks;
  while (static_cast<int>(ranks.size()) < num_ranks) {
    ranks.push_back(std::make_unique<GpuRank>(static_cast<int>(ranks.size())));
  }
  return ranks;
}

}  // namespace tokenyard::test
