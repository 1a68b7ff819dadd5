#include "group/device_verbs.hpp"

#include <mutex>

#include "base/cuda_error.hpp"
#include "base/deadline.hpp"
#include "base/failure_word.hpp"
#include "kernels/cuda/window_words.hpp"
#include "memory/current_device.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

// What lies behind the bytes of a window, at a multiple of 8: [num_ranks] addresses of regions, [num_ranks] of failure words,
// and a word for results.
std::size_t tables_offset(std::size_t num_bytes) { return (num_bytes + 7) / 8 * 8; }

class CudaVerbs final : public DeviceVerbs {
 public:
  CudaVerbs(const Peers& peers, const std::vector<std::shared_ptr<MemoryRegion>>& regions, std::size_t num_bytes)
      : device_(peers.device_place().device) {
    const CurrentDevice current(device_);
    cuda::load_window_kernels();
    stream_ = make_urgent_stream();

    std::vector<std::uint64_t> tables;
    for (const auto& region : regions) tables.push_back(reinterpret_cast<std::uint64_t>(region ? region->data() : nullptr));
    for (const auto* failure : peers.device_failure_words()) tables.push_back(reinterpret_cast<std::uint64_t>(failure));
    std::byte* const on_device = regions[peers.rank()]->data() + tables_offset(num_bytes);
    copy(on_device, tables.data(), tables.size() * sizeof(std::uint64_t));
    result_ = reinterpret_cast<std::uint64_t*>(on_device) + tables.size();
    window_ = {.rank = peers.rank(),
               .num_ranks = peers.num_ranks(),
               .num_bytes = num_bytes,
               .regions = reinterpret_cast<std::byte**>(on_device),
               .failures = reinterpret_cast<std::uint64_t**>(on_device) + regions.size(),
               .timeout_nanoseconds = Deadline(peers.timeout()).nanoseconds(),
               .missed_deadline = pack({ErrorCode::kTimeout, Phase::kWindowWait, -1, peers.rank()})};
  }
  ~CudaVerbs() override {
    const CurrentDevice current(device_, std::nothrow);
    cudaStreamDestroy(stream_);
  }
  CudaVerbs(const CudaVerbs&) = delete;
  CudaVerbs& operator=(const CudaVerbs&) = delete;

  const DeviceWindow& window() const noexcept override { return window_; }

  void copy(void* destination, const void* source, std::size_t num_bytes) override {
    const CurrentDevice current(device_);
    const std::lock_guard lock(mutex_);
    copy(destination, source, num_bytes, stream_);
    finish();
  }
  void store(std::uint64_t* word, std::uint64_t value) override {
    const CurrentDevice current(device_);
    const std::lock_guard lock(mutex_);
    cuda::store_word(word, value, stream_);
    finish();
  }
  std::uint64_t add(std::uint64_t* word, std::uint64_t value) override {
    const CurrentDevice current(device_);
    const std::lock_guard lock(mutex_);
    cuda::add_to_word(word, value, result_, stream_);
    return fetch(result_);
  }
  std::uint64_t load(const std::uint64_t* word) override {
    const CurrentDevice current(device_);
    const std::lock_guard lock(mutex_);
    return fetch(word);
  }

  void copy(void* destination, const void* source, std::size_t num_bytes, Stream stream) override {
    const CurrentDevice current(device_);
    check_cuda(cudaMemcpyAsync(destination, source, num_bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
  }
  void store(std::uint64_t* word, std::uint64_t value, Stream stream) override {
    const CurrentDevice current(device_);
    cuda::store_word(word, value, stream);
  }
  void wait(std::size_t offset, Compare compare, std::uint64_t value, std::uint64_t timeout_nanoseconds,
            Stream stream) override {
    const CurrentDevice current(device_);
    cuda::await_word(window_, offset, compare, value, timeout_nanoseconds, stream);
  }

 private:
  // A copy brings an aligned word as a whole, and later copies bring what was visible before it.
  std::uint64_t fetch(const std::uint64_t* word) {
    std::uint64_t value = 0;
    check_cuda(cudaMemcpyAsync(&value, word, sizeof(value), cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
    finish();
    return value;
  }
  void finish() { check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  int device_;
  std::mutex mutex_;  // of the stream and the word for results
  cudaStream_t stream_ = nullptr;
  std::uint64_t* result_ = nullptr;
  DeviceWindow window_{};
};

}  // namespace

std::size_t device_window_bytes(std::size_t num_bytes, int num_ranks) {
  return tables_offset(num_bytes) + (2 * static_cast<std::size_t>(num_ranks) + 1) * sizeof(std::uint64_t);
}

std::unique_ptr<DeviceVerbs> make_device_verbs(const Peers& peers, const std::vector<std::shared_ptr<MemoryRegion>>& regions,
                                               std::size_t num_bytes) {
  return std::make_unique<CudaVerbs>(peers, regions, num_bytes);
}

}  // namespace tokenyard
