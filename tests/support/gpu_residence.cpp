#include "tests/support/gpu_residence.hpp"

#include <fmt/core.h>

#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "base/cuda_error.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

// Host and GPU reach it by one address.
class PinnedTensorMemory : public TensorMemory {
 public:
  PinnedTensorMemory(GpuRank* gpu, std::byte* piece, std::size_t num_bytes)
      : TensorMemory(piece, piece, num_bytes), gpu_(gpu) {}
  ~PinnedTensorMemory() override { gpu_->pinned().give_back(address_); }

 private:
  GpuRank* gpu_;
};

// A tensor on the device, and its copy on the host.
class DeviceTensorMemory : public TensorMemory {
 public:
  DeviceTensorMemory(GpuRank* gpu, std::byte* piece, std::unique_ptr<std::byte[]> copy, std::size_t num_bytes)
      : TensorMemory(copy.get(), piece, num_bytes), gpu_(gpu), copy_(std::move(copy)) {}
  ~DeviceTensorMemory() override { gpu_->on_device().give_back(address_); }

  void take_back() override { gpu_->copy_to_host(bytes_, address_, num_bytes_); }

 protected:
  void hand_over() override { gpu_->copy_to_device(address_, bytes_, num_bytes_); }

 private:
  GpuRank* gpu_;
  std::unique_ptr<std::byte[]> copy_;
};

constexpr int kNumSmsShared = 128;  // that the ranks of one GPU may take together: their blocks wait for each other

}  // namespace

GpuResidence::GpuResidence(GpuRank* gpu, const Options& options)
    : gpu_(gpu), shake_(options.shake), random_(seed_of(options.seed, options.rank)) {
  const char* wanted = std::getenv("TOKENYARD_TEST_ENGINES");
  const int num_gpus = count_gpus();
  const int num_ranks_per_gpu = (options.num_ranks + num_gpus - 1) / num_gpus;
  has_engines_ = num_ranks_per_gpu == 1 && (wanted == nullptr || *wanted != '0');
  RandomBits common(seed_of(options.seed, -1));
  num_sms_ = num_ranks_per_gpu == 1 ? common.pick({0, 1, 8, 32})
                                    : common.pick({1, 4, kNumSmsShared / 8 / (1 + (num_ranks_per_gpu - 1) / 8)});
  gpu_->delay_kernels(shake_ ? options.seed | 1 : 0);
  tensors_ = random_.pick({Tensors::kPinned, Tensors::kPinned, Tensors::kOnDevice, Tensors::kMixed});
}

// After an error something may still be under way.
GpuResidence::~GpuResidence() {
  cudaStreamSynchronize(gpu_->stream());
  cudaStreamSynchronize(gpu_->other_stream());
}

void GpuResidence::choose(GroupOptions* options) {
  options->device = gpu_->device();
  options->num_sms = num_sms_;
  options->copy_engines = has_engines_;
}

std::unique_ptr<TensorMemory> GpuResidence::allocate(std::size_t num_bytes) {
  const bool wants_pinned = tensors_ == Tensors::kPinned || (tensors_ == Tensors::kMixed && random_.one_in(2));
  if (wants_pinned) {
    if (std::byte* piece = gpu_->pinned().take(num_bytes)) return std::make_unique<PinnedTensorMemory>(gpu_, piece, num_bytes);
  }
  // Also what is too large to be pinned.
  std::byte* piece = gpu_->on_device().take(num_bytes);
  if (piece == nullptr) {
    throw std::runtime_error(
        fmt::format("no room for {} more bytes of tensors on the GPU: gpu_rank.cpp takes too few", num_bytes));
  }
  return std::make_unique<DeviceTensorMemory>(gpu_, piece, std::make_unique_for_overwrite<std::byte[]>(num_bytes), num_bytes);
}

void GpuResidence::maybe_delay() {
  if (!shake_) return;
  if (random_.one_in(3)) std::this_thread::sleep_for(std::chrono::microseconds(random_.from(0, 200)));
  if (random_.one_in(3)) enqueue_delay(gpu_->stream(), std::chrono::microseconds(random_.any_magnitude(1, 200)));
}

Execution GpuResidence::next_execution(bool is_split, bool may_use_engines) {
  maybe_delay();
  Execution execution;
  execution.stream = gpu_->stream();
  // What has been asked of the first stream comes before the call, and what is asked of it from now on comes behind.
  is_elsewhere_ = !is_split && random_.one_in(4);
  if (is_elsewhere_) {
    if (random_.one_in(2)) enqueue_delay(gpu_->stream(), std::chrono::microseconds(random_.from(1, 100)));
    check_cuda(cudaEventRecord(gpu_->event_before(), gpu_->stream()), "cudaEventRecord");
    execution.stream = gpu_->other_stream();
    execution.wait_for = gpu_->event_before();
    execution.record = gpu_->event_behind();
  }
  if (random_.one_in(2)) execution.num_sms = static_cast<int>(random_.from(1, 8));
  execution.copies = random_.pick({Copies::kChosen, Copies::kChosen, Copies::kPlain, Copies::kBulk});
  if (execution.copies == Copies::kBulk && !gpu_->has_bulk_copies()) execution.copies = Copies::kChosen;
  if (may_use_engines && has_engines_ && random_.one_in(3)) execution.copies = Copies::kEngine;
  return execution;
}

void GpuResidence::call_is_made() {
  if (is_elsewhere_) check_cuda(cudaStreamWaitEvent(gpu_->stream(), gpu_->event_behind()), "cudaStreamWaitEvent");
  is_elsewhere_ = false;
  maybe_delay();
}

// The other stream's calls are behind the first stream's events: if they were not, results would be looked at too early.
void GpuResidence::finish() { check_cuda(cudaStreamSynchronize(gpu_->stream()), "cudaStreamSynchronize"); }

}  // namespace tokenyard::test
