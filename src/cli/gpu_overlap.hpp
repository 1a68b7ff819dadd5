// What a matrix product and a call of the library take of each other when both run on a GPU at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/gpu_bench_tensors.hpp"
#include "cli/gpu_product.hpp"
#include "cli/gpu_stage.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::cli {

struct OverlapStep {
  std::string operation;  // kDispatchCached or kCombineInPlace
  Copies copies = Copies::kChosen;
  // The call is launched before the product, in a stream of a higher priority; otherwise behind it, in one of a lower.
  bool is_urgent = false;
  int num_sms = 0;  // of a call, 0: the library chooses; the product gets those that the calls leave
};

// What one rank measured of one step: microseconds by iteration, warm-ups not counted.
struct OverlapMeasurement {
  std::vector<double> product_alone;
  std::vector<double> product_beside;
  std::vector<double> call_alone;
  std::vector<double> call_beside;
  std::int64_t checked_rows = 0;  // with --check: those of the last iteration
  std::int64_t wrong_rows = 0;
};

class GpuOverlap {
 public:
  // Collective. `setup` must outlive it, and so must the stage.
  GpuOverlap(const BenchSetup& setup, GpuStage& stage);
  ~GpuOverlap();
  GpuOverlap(const GpuOverlap&) = delete;
  GpuOverlap& operator=(const GpuOverlap&) = delete;

  const GpuProduct& product() const { return *product_; }

  // Collective: the same step on all ranks. In every iteration the product runs alone, then the call, then both.
  OverlapMeasurement measure(const OverlapStep& step);

 private:
  // What runs in a stream of its own, and how long it takes.
  struct Lane {
    Stream stream = nullptr;
    Event begin = nullptr;
    Event end = nullptr;
    double microseconds() const;
  };
  enum class What : std::uint8_t { kProduct, kCall, kBoth };

  void make_lane(Lane* lane, int priority);
  // All ranks begin together; what is in both lanes, too.
  void run(const OverlapStep& step, What what, bool is_warmup, bool is_checked, OverlapMeasurement* measurement);
  void enqueue(const Lane& lane, const std::function<void()>& work);
  DispatchArgs dispatch_args(Stream stream, const OverlapStep& step) const;
  CombineArgs combine_args(Stream stream, const OverlapStep& step, const ConstTensorView& rows) const;
  const Lane& call_lane(const OverlapStep& step) const { return step.is_urgent ? urgent_ : patient_; }

  const BenchSetup& setup_;
  GpuStage& stage_;
  Plan plan_;
  GpuBenchTensors tensors_;
  Routing routing_;
  Lane multiplying_;
  Lane urgent_;
  Lane patient_;
  Event fork_ = nullptr;
  std::unique_ptr<GpuProduct> product_;
};

}  // namespace tokenyard::cli
