#include "cli/bench_latency_rank.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "cli/bench_check.hpp"
#include "cli/bench_tensors.hpp"
#include "cli/cache_sweep.hpp"
#include "cli/flag_round_trips.hpp"
#include "cli/progress.hpp"
#include "cli/start_line.hpp"

namespace tokenyard::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRoundTrips = 2;  // of the yardstick

double microseconds_between(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - start).count();
}

class LatencyBenchRank {
 public:
  LatencyBenchRank(const BenchSetup& setup, const Group& group, const Plan& plan, StartLine* start_line, FlagRoundTrips* flags);
  void run_iteration(bool warming_up);
  std::vector<LatencyMeasurement> take();

 private:
  Received dispatch() const { return plan_.begin_dispatch(dispatch_args_).complete(); }
  void combine(const Routing& routing);
  std::int64_t wrong_received(const Received& received) const;
  std::int64_t wrong_combined();
  void line_up();
  template <class Operation>
  void measure(LatencyMeasurement* measurement, const Operation& operation);
  void run_yardstick(LatencyMeasurement* measurement);

  const BenchSetup& setup_;
  int rank_;
  Plan plan_;
  StartLine* start_line_;
  FlagRoundTrips* flags_;
  CacheSweep cache_sweep_;
  BenchTensors tensors_;
  DispatchArgs dispatch_args_;
  Bytes copy_source_;
  Bytes copy_target_;
  LatencyMeasurement dispatch_;
  LatencyMeasurement combine_;
  LatencyMeasurement both_;
  bool warming_up_ = true;
};

LatencyBenchRank::LatencyBenchRank(const BenchSetup& setup, const Group& group, const Plan& plan, StartLine* start_line,
                                   FlagRoundTrips* flags)
    : setup_(setup),
      rank_(group.rank()),
      plan_(plan),
      start_line_(start_line),
      flags_(flags),
      cache_sweep_(setup.num_ranks),
      tensors_(setup, rank_, plan_.sizes()),
      dispatch_args_(tensors_.dispatch_args()) {
  dispatch_.operation = "dispatch";
  dispatch_.bytes = bytes_of_dispatch(setup, rank_);
  combine_.operation = "combine";
  if (setup.can_combine()) combine_.bytes = bytes_of_combine(setup, rank_);
  both_.operation = "both";
  both_.bytes = {.sent = dispatch_.bytes.sent + combine_.bytes.sent,
                 .delivered = dispatch_.bytes.delivered + combine_.bytes.delivered};
  const auto most_bytes = static_cast<std::size_t>(both_.bytes.all());
  copy_source_.resize(most_bytes);
  copy_target_.resize(most_bytes);
  for (std::size_t i = 0; i < most_bytes; ++i) copy_source_[i] = static_cast<std::byte>(i * 131 >> 3);
}

std::vector<LatencyMeasurement> LatencyBenchRank::take() {
  std::vector<LatencyMeasurement> measurements{std::move(dispatch_)};
  if (!setup_.can_combine()) return measurements;
  measurements.push_back(std::move(combine_));
  measurements.push_back(std::move(both_));
  return measurements;
}

// Every operation and its yardstick once: whatever disturbs the machine for a while disturbs all of them alike.
void LatencyBenchRank::run_iteration(bool warming_up) {
  warming_up_ = warming_up;
  Received received;
  measure(&dispatch_, [&] { received = dispatch(); });
  dispatch_.wrong_rows += wrong_received(received);
  run_yardstick(&dispatch_);
  if (!setup_.can_combine()) return;

  measure(&combine_, [&] { combine(received.routing()); });
  combine_.wrong_rows += wrong_combined();
  received.release();
  run_yardstick(&combine_);

  measure(&both_, [&] {
    received = dispatch();
    combine(received.routing());
  });
  both_.wrong_rows += wrong_received(received) + wrong_combined();
  received.release();
  run_yardstick(&both_);
}

void LatencyBenchRank::combine(const Routing& routing) {
  plan_.begin_combine(tensors_.combine_args(routing, tensors_.expert_rows())).complete();
}

std::int64_t LatencyBenchRank::wrong_received(const Received& received) const {
  if (!setup_.options.check) return 0;
  const std::int64_t num_wrong = count_wrong_received(setup_, rank_, received);
  tensors_.poison(received);
  return num_wrong;
}

std::int64_t LatencyBenchRank::wrong_combined() {
  if (!setup_.options.check) return 0;
  const std::int64_t num_wrong = count_wrong_combined(setup_, rank_, tensors_.combined());
  tensors_.poison_combined();
  return num_wrong;
}

void LatencyBenchRank::line_up() {
  if (setup_.cold_caches) cache_sweep_.sweep();
  start_line_->line_up();
}

template <class Operation>
void LatencyBenchRank::measure(LatencyMeasurement* measurement, const Operation& operation) {
  line_up();
  const Clock::time_point start = Clock::now();
  operation();
  const Clock::time_point end = Clock::now();
  if (!warming_up_) measurement->microseconds.push_back(microseconds_between(start, end));
}

void LatencyBenchRank::run_yardstick(LatencyMeasurement* measurement) {
  const auto num_bytes = static_cast<std::size_t>(measurement->bytes.all());
  line_up();
  const Clock::time_point start = Clock::now();
  flags_->run(kRoundTrips);
  const Clock::time_point flags_end = Clock::now();
  if (num_bytes > 0) std::memcpy(copy_target_.data(), copy_source_.data(), num_bytes);
  asm volatile("" : : "r"(copy_target_.data()) : "memory");  // nobody reads the copy, but it must be made
  const Clock::time_point end = Clock::now();
  if (warming_up_) return;
  measurement->flag_microseconds.push_back(microseconds_between(start, flags_end));
  measurement->memcpy_microseconds.push_back(microseconds_between(flags_end, end));
}

}  // namespace

RowBytes bytes_of_dispatch(const BenchSetup& setup, int rank) {
  std::int64_t num_sent = 0;
  for (const ExpectedRank& destination : setup.expected) num_sent += destination.rows_from(rank);
  const ExpectedRank& own = setup.expected[static_cast<std::size_t>(rank)];
  auto num_delivered = static_cast<std::int64_t>(own.rows.size());
  if (setup.shape.layout != Layout::kCompact) {
    num_delivered =
        std::count_if(own.pairs.begin(), own.pairs.end(), [](const ExpectedPair& pair) { return pair.position >= 0; });
  }
  return {.sent = num_sent * setup.dispatch_row_bytes, .delivered = num_delivered * setup.dispatch_row_bytes};
}

RowBytes bytes_of_combine(const BenchSetup& setup, int rank) {
  const auto num_contributions = static_cast<std::int64_t>(setup.expected[static_cast<std::size_t>(rank)].rows.size());
  return {.sent = num_contributions * setup.combine_row_bytes, .delivered = setup.num_tokens * setup.combine_row_bytes};
}

std::vector<std::vector<LatencyMeasurement>> measure_latency_rank(const std::vector<BenchSetup>& setups, const Group& group) {
  const Plan plan = group.plan(setups.front().shape);
  StartLine start_line(group);
  FlagRoundTrips flags(group);
  const int num_iterations = setups.front().num_warmups + setups.front().num_iterations;
  std::optional<Progress> progress;
  if (group.rank() == 0) progress.emplace("bench: iterations", num_iterations * static_cast<int>(setups.size()));
  std::vector<std::vector<LatencyMeasurement>> measurements;
  for (const BenchSetup& setup : setups) {
    LatencyBenchRank bench_rank(setup, group, plan, &start_line, &flags);
    for (int i = 0; i < num_iterations; ++i) {
      bench_rank.run_iteration(i < setup.num_warmups);
      if (progress) progress->advance();
    }
    measurements.push_back(bench_rank.take());
  }
  return measurements;
}

}  // namespace tokenyard::cli
