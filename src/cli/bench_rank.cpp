#include "cli/bench_rank.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "cli/bench_check.hpp"
#include "cli/bench_tensors.hpp"
#include "cli/cache_sweep.hpp"
#include "cli/progress.hpp"
#include "cli/start_line.hpp"

namespace tokenyard::cli {
namespace {

class BenchRank {
 public:
  BenchRank(const BenchSetup& setup, const Group& group);
  std::vector<Measurement> run();

 private:
  void run_iteration();
  Received run_dispatch(const std::string& operation, const Routing* cached);
  void run_combine(const std::string& operation, const Routing& routing, const ConstTensorView& rows);
  void run_memcpy();

  template <class Operation>
  double time(const Operation& operation);
  void record(const std::string& operation, double microseconds, std::int64_t wrong_rows);

  const BenchSetup& setup_;
  Group group_;
  Plan plan_;
  const ExpectedRank& expected_;
  std::optional<CacheSweep> cache_sweep_;
  StartLine start_line_;
  BenchTensors tensors_;
  Bytes copy_source_;
  Bytes copy_target_;
  bool warming_up_ = true;
  std::vector<Measurement> measurements_;
};

BenchRank::BenchRank(const BenchSetup& setup, const Group& group)
    : setup_(setup),
      group_(group),
      plan_(group.plan(setup.shape)),
      expected_(setup.expected[static_cast<std::size_t>(group.rank())]),
      start_line_(group),
      tensors_(setup, group.rank(), plan_.sizes()) {
  if (setup.cold_caches) cache_sweep_.emplace(setup.num_ranks);
  const std::size_t delivered_bytes = expected_.rows.size() * static_cast<std::size_t>(setup.dispatch_row_bytes);
  copy_source_.resize(delivered_bytes);
  copy_target_.resize(delivered_bytes);
  for (std::size_t i = 0; i < delivered_bytes; ++i) copy_source_[i] = static_cast<std::byte>(i * 131 >> 3);
}

std::vector<Measurement> BenchRank::run() {
  const int num_iterations = setup_.num_warmups + setup_.num_iterations;
  std::optional<Progress> progress;
  if (group_.rank() == 0 && setup_.shows_progress) progress.emplace("bench: iterations", num_iterations);
  for (int i = 0; i < num_iterations; ++i) {
    warming_up_ = i < setup_.num_warmups;
    run_iteration();
    if (progress) progress->advance();
  }
  return std::move(measurements_);
}

// Every operation once, one after the other: whatever disturbs the machine for a while disturbs all of them alike.
void BenchRank::run_iteration() {
  Received received = run_dispatch("dispatch", nullptr);
  const Routing routing = received.routing();
  if (setup_.can_combine()) run_combine("combine", routing, tensors_.expert_rows());
  if (setup_.can_combine_in_place()) {
    const TensorView in_place = received.combine_buffer();
    if (setup_.options.check) write_expert_rows(setup_, group_.rank(), static_cast<std::byte*>(in_place.data));
    run_combine("combine_in_place", routing, in_place);
  }
  if (setup_.options.check) tensors_.poison(received);
  received.release();

  received = run_dispatch("dispatch_cached", &routing);
  if (setup_.options.check) tensors_.poison(received);
  received.release();

  run_memcpy();
}

Received BenchRank::run_dispatch(const std::string& operation, const Routing* cached) {
  const DispatchArgs args = tensors_.dispatch_args(cached);
  Received received;
  const double microseconds = time([&] { received = plan_.dispatch(args); });
  const auto num_lanes = static_cast<int>(setup_.shape.lanes.size());
  record(operation, microseconds,
         setup_.options.check ? count_wrong_received(setup_, group_.rank(), delivered_by(received, num_lanes)) : 0);
  return received;
}

void BenchRank::run_combine(const std::string& operation, const Routing& routing, const ConstTensorView& rows) {
  if (setup_.options.check) tensors_.poison_combined();
  const CombineArgs args = tensors_.combine_args(routing, rows);
  const double microseconds = time([&] { plan_.combine(args); });
  record(operation, microseconds, setup_.options.check ? count_wrong_combined(setup_, group_.rank(), tensors_.combined()) : 0);
}

void BenchRank::run_memcpy() {
  if (setup_.options.check) std::fill(copy_target_.begin(), copy_target_.end(), kPoison);
  const double microseconds = time([&] {
    if (!copy_source_.empty()) std::memcpy(copy_target_.data(), copy_source_.data(), copy_source_.size());
    asm volatile("" : : "r"(copy_target_.data()) : "memory");  // nobody reads the copy, but it must be made
  });
  record("memcpy", microseconds,
         setup_.options.check && copy_target_ != copy_source_ ? static_cast<std::int64_t>(expected_.rows.size()) : 0);
}

template <class Operation>
double BenchRank::time(const Operation& operation) {
  if (cache_sweep_) cache_sweep_->sweep();
  start_line_.wait_for_all();
  const auto start = std::chrono::steady_clock::now();
  operation();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

void BenchRank::record(const std::string& operation, double microseconds, std::int64_t wrong_rows) {
  auto entry = std::find_if(measurements_.begin(), measurements_.end(),
                            [&](const Measurement& measurement) { return measurement.operation == operation; });
  if (entry == measurements_.end()) {
    measurements_.push_back({.operation = operation, .microseconds = {}});
    entry = measurements_.end() - 1;
  }
  if (!warming_up_) entry->microseconds.push_back(microseconds);
  entry->wrong_rows += wrong_rows;
}

}  // namespace

std::vector<Measurement> measure_rank(const BenchSetup& setup, const Group& group) { return BenchRank(setup, group).run(); }

}  // namespace tokenyard::cli
