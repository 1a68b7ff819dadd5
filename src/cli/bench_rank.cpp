#include "cli/bench_rank.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "cli/bench_check.hpp"
#include "cli/cache_sweep.hpp"
#include "cli/progress.hpp"
#include "cli/start_line.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::byte kPoison{0xee};  // neither a payload nor a sum of payloads looks like this

using Bytes = std::vector<std::byte>;

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
  double time_cold(const Operation& operation);
  void record(const std::string& operation, double microseconds, std::int64_t wrong_rows);
  std::int64_t num_tensor_rows() const;
  TensorView rows_tensor(const Lane& lane, std::byte* rows) const;
  void poison(const Received& received) const;

  const BenchSetup& setup_;
  Group group_;
  Plan plan_;
  const ExpectedRank& expected_;
  CacheSweep cache_sweep_;
  StartLine start_line_;
  std::vector<Bytes> token_rows_;  // by lane: what this rank sends
  std::vector<Bytes> outputs_;     // by lane, where results go to the caller's memory
  Bytes expert_rows_;              // what combine sends back
  Bytes combined_;                 // what it returns
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
      cache_sweep_(setup.num_ranks),
      start_line_(group) {
  for (std::size_t lane_idx = 0; lane_idx < setup.shape.lanes.size(); ++lane_idx) {
    const std::size_t num_row_bytes = setup.shape.lanes[lane_idx].row_bytes();
    Bytes& rows = token_rows_.emplace_back(static_cast<std::size_t>(setup.options.num_tokens) * num_row_bytes);
    for (std::int64_t token = 0; token < setup.options.num_tokens; ++token) {
      write_token_row(setup, group.rank(), token, lane_idx, rows.data() + static_cast<std::size_t>(token) * num_row_bytes);
    }
    // One row more than needed, so that there is an address for no rows too.
    if (setup.caller_outputs) outputs_.emplace_back(static_cast<std::size_t>(num_tensor_rows() + 1) * num_row_bytes, kPoison);
  }
  const auto row_bytes = static_cast<std::size_t>(setup.combine_row_bytes);
  expert_rows_.resize(static_cast<std::size_t>(num_tensor_rows() + 1) * row_bytes);
  if (setup.can_combine()) write_expert_rows(setup, group.rank(), expert_rows_.data());
  combined_.resize(static_cast<std::size_t>(setup.options.num_tokens) * row_bytes);
  const std::size_t delivered_bytes = expected_.rows.size() * static_cast<std::size_t>(setup.dispatch_row_bytes);
  copy_source_.resize(delivered_bytes);
  copy_target_.resize(delivered_bytes);
  for (std::size_t i = 0; i < delivered_bytes; ++i) copy_source_[i] = static_cast<std::byte>(i * 131 >> 3);
}

std::vector<Measurement> BenchRank::run() {
  const int num_iterations = setup_.options.num_warmups + setup_.options.num_iterations;
  std::optional<Progress> progress;
  if (group_.rank() == 0) progress.emplace("bench: iterations", num_iterations);
  for (int i = 0; i < num_iterations; ++i) {
    warming_up_ = i < setup_.options.num_warmups;
    run_iteration();
    if (progress) progress->advance();
  }
  return std::move(measurements_);
}

// Every operation once, one after the other: whatever disturbs the machine for a while disturbs all of them alike.
void BenchRank::run_iteration() {
  Received received = run_dispatch("dispatch", nullptr);
  const Routing routing = received.routing();
  if (setup_.can_combine()) run_combine("combine", routing, rows_tensor(*setup_.shape.combine, expert_rows_.data()));
  if (setup_.can_combine_in_place()) {
    const TensorView in_place = received.combine_buffer();
    if (setup_.options.check) write_expert_rows(setup_, group_.rank(), static_cast<std::byte*>(in_place.data));
    run_combine("combine_in_place", routing, in_place);
  }
  if (setup_.options.check) poison(received);
  received.release();

  received = run_dispatch("dispatch_cached", &routing);
  if (setup_.options.check) poison(received);
  received.release();

  run_memcpy();
}

Received BenchRank::run_dispatch(const std::string& operation, const Routing* cached) {
  std::vector<ConstTensorView> lanes;
  std::vector<TensorView> outputs;
  for (std::size_t lane_idx = 0; lane_idx < token_rows_.size(); ++lane_idx) {
    const Lane& lane = setup_.shape.lanes[lane_idx];
    lanes.emplace_back(token_rows_[lane_idx].data(), lane.dtype,
                       std::initializer_list<std::int64_t>{setup_.options.num_tokens, lane.num_elements});
    if (setup_.caller_outputs) outputs.push_back(rows_tensor(lane, outputs_[lane_idx].data()));
  }
  DispatchArgs args;
  args.lanes = lanes;
  args.outputs = outputs;
  args.routing = cached;
  if (cached == nullptr) {
    args.topk_idx = tensor(setup_.routing.ids(group_.rank()), {setup_.options.num_tokens, setup_.options.top_k});
    args.topk_weights = tensor(setup_.routing.weights(group_.rank()), {setup_.options.num_tokens, setup_.options.top_k});
  }
  Received received;
  const double microseconds = time_cold([&] { received = plan_.dispatch(args); });
  record(operation, microseconds, setup_.options.check ? count_wrong_received(setup_, group_.rank(), received) : 0);
  return received;
}

void BenchRank::run_combine(const std::string& operation, const Routing& routing, const ConstTensorView& rows) {
  const Lane& lane = *setup_.shape.combine;
  if (setup_.options.check) std::fill(combined_.begin(), combined_.end(), kPoison);
  CombineArgs args;
  args.routing = &routing;
  args.rows = rows;
  args.use_routing_weights = setup_.shape.layout != Layout::kCompact;
  args.output = TensorView(combined_.data(), lane.dtype, {setup_.options.num_tokens, lane.num_elements});
  const double microseconds = time_cold([&] { plan_.combine(args); });
  record(operation, microseconds, setup_.options.check ? count_wrong_combined(setup_, group_.rank(), combined_.data()) : 0);
}

void BenchRank::run_memcpy() {
  if (setup_.options.check) std::fill(copy_target_.begin(), copy_target_.end(), kPoison);
  const double microseconds = time_cold([&] {
    if (!copy_source_.empty()) std::memcpy(copy_target_.data(), copy_source_.data(), copy_source_.size());
    asm volatile("" : : "r"(copy_target_.data()) : "memory");  // nobody reads the copy, but it must be made
  });
  record("memcpy", microseconds,
         setup_.options.check && copy_target_ != copy_source_ ? static_cast<std::int64_t>(expected_.rows.size()) : 0);
}

template <class Operation>
double BenchRank::time_cold(const Operation& operation) {
  cache_sweep_.sweep();
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

// Rows of a result's tensors, as RecvSizes::num_tensor_rows has them.
std::int64_t BenchRank::num_tensor_rows() const {
  if (setup_.shape.overflow == Overflow::kGrow || setup_.shape.layout == Layout::kExpertPadded)
    return expected_.num_expanded_rows;
  const std::int64_t capacity = plan_.sizes().recv_capacity;
  if (setup_.shape.layout == Layout::kCompact) return capacity;
  return capacity * setup_.shape.top_k + std::int64_t{expected_.num_local_experts} * (setup_.shape.expert_alignment - 1);
}

TensorView BenchRank::rows_tensor(const Lane& lane, std::byte* rows) const {
  if (setup_.shape.layout == Layout::kExpertPadded) {
    return {rows, lane.dtype, {expected_.num_local_experts, setup_.shape.expert_capacity, lane.num_elements}};
  }
  return {rows, lane.dtype, {num_tensor_rows(), lane.num_elements}};
}

// What the next dispatch into this memory forgets to write shall show.
void BenchRank::poison(const Received& received) const {
  for (std::size_t lane_idx = 0; lane_idx < setup_.shape.lanes.size(); ++lane_idx) {
    const TensorView rows = received.lane(static_cast<int>(lane_idx));
    if (rows.num_elements() > 0)
      std::memset(rows.data, std::to_integer<int>(kPoison), rows.num_elements() * size_of(rows.dtype));
  }
}

}  // namespace

std::vector<Measurement> measure_rank(const BenchSetup& setup, const Group& group) { return BenchRank(setup, group).run(); }

}  // namespace tokenyard::cli
