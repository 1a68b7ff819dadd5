// One rank on a GPU that plays with the small layer of round_trip.hpp. Its calls run in the first stream of its GpuRank.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tests/engine/round_trip.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/gpu_residence.hpp"

namespace tokenyard::test {

// Nobody has to know how many rows come, so nothing of it waits on the host.
Shape capacity_shape(int num_ranks);

class CudaSmallRank {
 public:
  // `meet` returns when all ranks of the test have called it, whatever they have done before.
  CudaSmallRank(std::shared_ptr<Exchange> exchange, GpuRank* gpu, std::function<void()> meet, const Shape& shape);
  ~CudaSmallRank();
  CudaSmallRank(const CudaSmallRank&) = delete;
  CudaSmallRank& operator=(const CudaSmallRank&) = delete;

  // Arguments whose tensors are where the GPU reaches them, for as long as the rank lives.
  DispatchArgs dispatch(std::chrono::milliseconds timeout) const;
  DispatchArgs dispatch_with_weights(std::chrono::milliseconds timeout) const;
  DispatchArgs cached(const Routing& routing, std::chrono::milliseconds timeout) const;
  CombineArgs combine(const Routing& routing, const ConstTensorView& rows, std::chrono::milliseconds timeout);
  // The right ids but for one.
  ConstTensorView ids_with(std::int64_t pair, std::int32_t id);
  // Floats of value 0.
  TensorView zeros(std::initializer_list<std::int64_t> shape);

  // Waits until the calls made so far are over.
  void finish() const;

  // One dispatch and one combine; collective. Or what the combine made last has written.
  void expect_sum_of(const Plan& plan, Copies copies = Copies::kChosen);
  void expect_sum();

  // Runs `body` while the rank's stream is captured, and throws the graph away.
  void capture(const std::function<void()>& body) const;

  // Collective: forgets the failure and shows that everything works again.
  void recover_and_go_on();

  const int rank;
  const int num_ranks;
  GpuRank* const gpu;
  const std::function<void()> meet;

 private:
  template <class Void>
  BasicTensorView<Void> keep(const BasicTensorView<Void>& tensor);
  static Group make_group(std::shared_ptr<Exchange> exchange, GpuResidence* residence);

  GpuResidence residence_;
  SmallInput input_;
  std::vector<std::unique_ptr<TensorMemory>> kept_;
  ConstTensorView lane_, ids_, weights_;
  std::unique_ptr<TensorMemory> output_;

 public:
  const Group group;
  const Plan plan;           // of the given shape
  const Plan capacity_plan;  // of capacity_shape
};

// The ranks as threads that share the GPUs there are, and as processes that do.
void run_cuda_threads(int num_ranks, const std::function<void(CudaSmallRank&)>& body, const std::optional<Shape>& shape = {});
void run_cuda_processes(int num_ranks, const std::function<void(CudaSmallRank&)>& body);

}  // namespace tokenyard::test
