// The memory of one rank of a benchmark, and the arguments of its calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cli/bench_setup.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::cli {

using Bytes = std::vector<std::byte>;

inline constexpr std::byte kPoison{0xee};  // neither a payload nor a sum of payloads looks like this

// The setup must outlive it, and it must outlive the arguments that it makes.
class BenchTensors {
 public:
  BenchTensors(const BenchSetup& setup, int rank, const PlanSizes& sizes);

  // From top-k ids, or along an earlier Routing.
  DispatchArgs dispatch_args(const Routing* cached = nullptr) const;

  // `rows` as dispatch delivered them.
  CombineArgs combine_args(const Routing& routing, const ConstTensorView& rows);

  // What the experts of this rank return, in the caller's memory.
  TensorView expert_rows();

  // What is not written again shall show: the tensors of a result, and the output of combine.
  void poison(const Received& received) const;
  void poison_combined();

  const std::byte* combined() const { return combined_.data(); }

 private:
  std::int64_t num_tensor_rows(const PlanSizes& sizes) const;
  TensorView rows_tensor(const Lane& lane, std::byte* rows) const;

  const BenchSetup& setup_;
  int rank_;
  const ExpectedRank& expected_;
  std::int64_t num_tensor_rows_;        // as RecvSizes::num_tensor_rows
  std::vector<Bytes> token_rows_;       // by lane: what this rank sends
  std::vector<ConstTensorView> given_;  // the same as tensors
  std::vector<Bytes> output_rows_;      // by lane, where results go to the caller's memory
  std::vector<TensorView> outputs_;
  Bytes expert_rows_;  // what combine sends back
  Bytes combined_;     // what it returns
};

}  // namespace tokenyard::cli
