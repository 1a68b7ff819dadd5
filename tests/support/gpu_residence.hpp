// Of a rank whose windows are on a GPU. Tensors that are given to calls lie in pinned memory of the host or on the device,
// calls run in one stream or another, with few SMs or many, as a seed says; with `shake` there are delays between them, and in
// kernels.
#pragma once

#include "tests/support/gpu_rank.hpp"
#include "tests/support/random_bits.hpp"
#include "tests/support/residence.hpp"

namespace tokenyard::test {

class GpuResidence : public Residence {
 public:
  struct Options {
    std::uint64_t seed = 0;  // equal on all ranks
    int rank = 0;
    // On as many GPUs as there are. One on each: calls may use copy engines, unless TOKENYARD_TEST_ENGINES=0.
    int num_ranks = 1;
    bool shake = false;
  };
  // No kernel of this process may be waiting for another rank.
  GpuResidence(GpuRank* gpu, const Options& options);
  ~GpuResidence() override;

  void enter() override { gpu_->select(); }
  void choose(GroupOptions* options) override;
  bool is_stream_ordered() const noexcept override { return true; }
  std::unique_ptr<TensorMemory> allocate(std::size_t num_bytes) override;
  Execution next_execution(bool is_split, bool may_use_engines = false) override;
  // Whether calls of any of the ranks may ask for copy engines.
  bool has_engines() const noexcept { return has_engines_; }
  void call_is_made() override;
  void finish() override;

 protected:
  bool host_reaches(const std::byte* address) const override { return gpu_->pinned().contains(address); }
  void read(std::byte* to, const std::byte* from, std::size_t num_bytes) override { gpu_->copy_to_host(to, from, num_bytes); }
  void write(std::byte* to, const std::byte* from, std::size_t num_bytes) override {
    gpu_->copy_to_device(to, from, num_bytes);
  }

 private:
  bool has_engines_ = false;
  enum class Tensors { kPinned, kOnDevice, kMixed };

  void maybe_delay();

  GpuRank* gpu_;
  int num_sms_;  // of the group
  bool shake_;
  RandomBits random_;
  Tensors tensors_;
  bool is_elsewhere_ = false;  // the call that is being made, in the other stream
};

}  // namespace tokenyard::test
