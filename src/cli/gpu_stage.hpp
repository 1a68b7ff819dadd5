// One rank on a GPU as a place to measure on: its stream, a common start with the other ranks, and cold caches.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "cli/gpu_memory.hpp"
#include "tokenyard/execution.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard::cli {

class GpuStage {
 public:
  // Collective. The device must be the thread's current one. Ends with its streams' work done.
  GpuStage(std::shared_ptr<Exchange> exchange, const Group& group, int device);
  ~GpuStage();
  GpuStage(const GpuStage&) = delete;
  GpuStage& operator=(const GpuStage&) = delete;

  const Group& group() const { return group_; }
  Exchange& exchange() const { return *exchange_; }
  int rank() const { return group_.rank(); }
  int device() const { return device_; }
  Stream stream() const { return stream_; }
  int num_sms() const { return num_sms_; }                    // of the GPU
  int num_ranks_on_gpu() const { return num_ranks_on_gpu_; }  // this one included

  // Collective: microseconds on the GPU of what `enqueue` puts into the stream. All ranks' GPUs begin it together, and not
  // before it is in the stream as a whole, if `enqueue` does not wait for it; so a time holds the wait for slower ranks. With
  // `is_warmup` the GPU does not wait for the host, which may then take memory.
  double time_in_stream(bool cold_caches, bool is_warmup, const std::function<void()>& enqueue);

  // Collective: microseconds of the host's clock from the call of `work`, which all ranks begin together, to the end of all
  // that it put into the stream.
  double time_on_clock(bool cold_caches, const std::function<void()>& work);

  // Collective, blocking. Around whatever takes memory. Throws the failure of the group, if there is one.
  void settle();

  // Collective: GB/s from every rank to the next one by copy engines, all ranks at once, or rank 0 alone. Copies within a GPU
  // where the next rank is on the same one; nothing with a single rank.
  std::optional<double> copy_engine_rate(bool one_way);

 private:
  void make_cold();

  std::shared_ptr<Exchange> exchange_;
  Group group_;
  int device_;
  int num_sms_ = 0;
  int num_ranks_on_gpu_ = 1;
  Stream stream_ = nullptr;
  Event begin_ = nullptr;
  Event end_ = nullptr;
  std::uint64_t* gate_ = nullptr;  // of the host, read by the GPU
  std::uint64_t round_ = 0;
  std::optional<Window> window_;  // where ranks meet; behind that, what copy engines write
  GpuMemory sweep_;               // twice what the second cache holds, and what copy engines read
};

}  // namespace tokenyard::cli
