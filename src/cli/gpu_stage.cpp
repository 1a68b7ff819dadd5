#include "cli/gpu_stage.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/cuda_error.hpp"
#include "cli/gather.hpp"
#include "cli/gpu_line_up.hpp"
#include "cli/statistics.hpp"

namespace tokenyard::cli {
namespace {

using Clock = std::chrono::steady_clock;
using GpuName = std::array<char, 16>;  // as CUDA identifies it across processes

constexpr std::size_t kCopyOffset = std::size_t{64} << 10;  // behind the words where ranks meet
constexpr std::size_t kCopyBytes = std::size_t{256} << 20;
constexpr int kNumCopies = 10;
constexpr std::chrono::microseconds kTimeToLineUp{500};

}  // namespace

GpuStage::GpuStage(std::shared_ptr<Exchange> exchange, const Group& group, int device)
    : exchange_(std::move(exchange)), group_(group), device_(device) {
  static_assert(line_up_bytes(kMaxRanks) <= kCopyOffset);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  num_sms_ = properties.multiProcessorCount;
  std::vector<GpuName> own(1);
  static_assert(sizeof(properties.uuid) == sizeof(GpuName));
  std::memcpy(own[0].data(), &properties.uuid, sizeof(GpuName));
  const std::vector<std::vector<GpuName>> gpus = gather(*exchange_, own, group_.timeout());
  num_ranks_on_gpu_ = static_cast<int>(std::count(gpus.begin(), gpus.end(), own));

  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  for (Event* event : {&begin_, &end_}) check_cuda(cudaEventCreate(event), "cudaEventCreate");
  void* gate = nullptr;
  check_cuda(cudaHostAlloc(&gate, sizeof(*gate_), cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  gate_ = static_cast<std::uint64_t*>(gate);
  *gate_ = 0;
  load_line_up();
  sweep_ = GpuMemory(std::max(kCopyBytes, 2 * static_cast<std::size_t>(properties.l2CacheSize)));
  window_ = group_.window(kCopyOffset + kCopyBytes);
  // What the driver loads for fills and copies, it loads now.
  make_cold();
  check_cuda(cudaMemcpyAsync(window_->local() + kCopyOffset, sweep_.data(), kCopyBytes, cudaMemcpyDeviceToDevice, stream_),
             "cudaMemcpyAsync");
  settle();
}

GpuStage::~GpuStage() {
  __atomic_store_n(gate_, round_, __ATOMIC_RELEASE);
  cudaStreamSynchronize(stream_);
  cudaFreeHost(gate_);
  for (Event event : {begin_, end_}) cudaEventDestroy(event);
  cudaStreamDestroy(stream_);
}

double GpuStage::time_in_stream(bool cold_caches, bool is_warmup, const std::function<void()>& enqueue) {
  if (cold_caches) make_cold();
  ++round_;
  if (is_warmup) __atomic_store_n(gate_, round_, __ATOMIC_RELEASE);
  enqueue_line_up(window_->device_window(), gate_, round_, stream_);
  check_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord");
  enqueue();
  check_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord");
  __atomic_store_n(gate_, round_, __ATOMIC_RELEASE);
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
  if (group_.status().has_value()) settle();
  return milliseconds * 1e3;
}

double GpuStage::time_on_clock(bool cold_caches, const std::function<void()>& work) {
  if (cold_caches) make_cold();
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  // All ranks of a host read the same clock, so that they can agree on a moment.
  const std::vector<Clock::rep> proposal{(Clock::now() + kTimeToLineUp).time_since_epoch().count()};
  Clock::rep start = 0;
  for (const auto& moment : gather(*exchange_, proposal, group_.timeout())) start = std::max(start, moment.at(0));
  while (Clock::now().time_since_epoch().count() < start) {
  }
  const Clock::time_point begin = Clock::now();
  work();
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  const double microseconds = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
  if (group_.status().has_value()) settle();
  return microseconds;
}

void GpuStage::settle() {
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  group_.barrier();
}

std::optional<double> GpuStage::copy_engine_rate(bool one_way) {
  if (group_.num_ranks() == 1) return std::nullopt;
  std::byte* const target = window_->mapped((rank() + 1) % group_.num_ranks());
  const bool copies = target != nullptr && (!one_way || rank() == 0);
  std::vector<double> times;
  for (int i = -2; i < kNumCopies; ++i) {
    const double microseconds = time_in_stream(false, i < 0, [&] {
      if (!copies) return;
      check_cuda(cudaMemcpyAsync(target + kCopyOffset, sweep_.data(), kCopyBytes, cudaMemcpyDeviceToDevice, stream_),
                 "cudaMemcpyAsync");
    });
    if (i >= 0) times.push_back(microseconds);
  }
  const double median = percentile(slowest_of_ranks(gather(*exchange_, times, group_.timeout())), 50);
  return static_cast<double>(kCopyBytes) / median * 1e-3;
}

void GpuStage::make_cold() {
  check_cuda(cudaMemsetAsync(sweep_.data(), static_cast<int>(round_ & 0xff), sweep_.num_bytes(), stream_), "cudaMemsetAsync");
}

}  // namespace tokenyard::cli
