// The memory of one rank of a benchmark on GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cli/bench_check.hpp"
#include "cli/bench_setup.hpp"
#include "cli/gpu_memory.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::cli {

// All of it on the current GPU; `setup` must outlive it.
class GpuBenchTensors {
 public:
  // `max_rows`: rows that tensors for dispatch's results must have (unused for kExpertPadded). There are outputs where
  // `has_outputs`.
  GpuBenchTensors(const BenchSetup& setup, int rank, std::int64_t max_rows, bool has_outputs, Stream stream);

  std::span<const ConstTensorView> lanes() const { return lanes_; }
  const ConstTensorView& topk_idx() const { return topk_idx_; }
  const ConstTensorView& topk_weights() const { return topk_weights_; }
  std::span<const TensorView> outputs() const { return outputs_; }  // ordinary tensors for dispatch
  const TensorView& combined() const { return combined_; }

  // What the experts of this rank return, in an ordinary tensor of as many rows as `like` has; and the same bytes put where
  // `like` points to, in the stream.
  ConstTensorView expert_rows(const Received& received) const;
  void write_expert_rows_to(const TensorView& rows, Stream stream) const;

  // What is not written again shall show: these come before an operation that is checked.
  void poison(std::span<const TensorView> tensors, Stream stream) const;

  // Rows that are not as they must be, after the stream has done what it does.
  std::int64_t count_wrong(const Received& received, Stream stream) const;
  std::int64_t count_wrong_combined(Returned returned, Stream stream) const;

 private:
  GpuMemory keep(const void* bytes, std::size_t num_bytes, Stream stream);

  const BenchSetup& setup_;
  int rank_;
  std::vector<GpuMemory> memory_;
  std::vector<ConstTensorView> lanes_;
  ConstTensorView topk_idx_;
  ConstTensorView topk_weights_;
  std::vector<TensorView> outputs_;
  std::size_t expert_bytes_ = 0;  // of the rows that stand for something
  GpuMemory expert_rows_;
  TensorView combined_;
};

}  // namespace tokenyard::cli
