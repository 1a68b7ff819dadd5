#include "cli/bench_latency_rank.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <utility>

#include "cli/bench_check.hpp"
#include "cli/bench_tensors.hpp"
#include "cli/cache_sweep.hpp"
#include "cli/flag_round_trips.hpp"
#include "cli/progress.hpp"
#include "cli/row_copies.hpp"
#include "cli/start_line.hpp"

namespace tokenyard::cli {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_between(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - start).count();
}

std::size_t sum_of(const std::vector<std::size_t>& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0UL); }

void count(LatencyMeasurement* measurement, const RowBytes& bytes) {
  measurement->gathered_bytes += static_cast<std::int64_t>(bytes.gathered);
  measurement->sent_bytes += static_cast<std::int64_t>(sum_of(bytes.sent));
  measurement->delivered_bytes += static_cast<std::int64_t>(bytes.delivered);
}

class LatencyBenchRank {
 public:
  LatencyBenchRank(const BenchSetup& setup, const Group& group, const Plan& plan, StartLine* start_line, FlagRoundTrips* flags,
                   RowCopies* copies);
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
  // The parts of a yardstick, of the `bytes` of one operation each, with `num_round_trips` in all of them together 2.
  struct YardstickTimes {
    double flags = 0;
    double memcpy = 0;
  };
  YardstickTimes run_yardstick_part(const RowBytes& bytes, int num_round_trips);
  void run_yardstick(LatencyMeasurement* measurement, const std::vector<const RowBytes*>& parts);

  const BenchSetup& setup_;
  int rank_;
  Plan plan_;
  StartLine* start_line_;
  FlagRoundTrips* flags_;
  RowCopies* copies_;
  CacheSweep cache_sweep_;
  BenchTensors tensors_;
  DispatchArgs dispatch_args_;
  RowBytes dispatch_bytes_;
  RowBytes combine_bytes_;
  LatencyMeasurement dispatch_;
  LatencyMeasurement combine_;
  LatencyMeasurement both_;
  bool warming_up_ = true;
};

LatencyBenchRank::LatencyBenchRank(const BenchSetup& setup, const Group& group, const Plan& plan, StartLine* start_line,
                                   FlagRoundTrips* flags, RowCopies* copies)
    : setup_(setup),
      rank_(group.rank()),
      plan_(plan),
      start_line_(start_line),
      flags_(flags),
      copies_(copies),
      cache_sweep_(setup.num_ranks),
      tensors_(setup, rank_, plan_.sizes()),
      dispatch_args_(tensors_.dispatch_args()) {
  dispatch_.operation = "dispatch";
  combine_.operation = "combine";
  both_.operation = "both";
  dispatch_bytes_ = bytes_of_dispatch(setup, rank_);
  count(&dispatch_, dispatch_bytes_);
  count(&both_, dispatch_bytes_);
  if (!setup.can_combine()) return;
  combine_bytes_ = bytes_of_combine(setup, rank_);
  count(&combine_, combine_bytes_);
  count(&both_, combine_bytes_);
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
  run_yardstick(&dispatch_, {&dispatch_bytes_});
  if (!setup_.can_combine()) return;

  measure(&combine_, [&] { combine(received.routing()); });
  combine_.wrong_rows += wrong_combined();
  received.release();
  run_yardstick(&combine_, {&combine_bytes_});

  measure(&both_, [&] {
    received = dispatch();
    combine(received.routing());
  });
  both_.wrong_rows += wrong_received(received) + wrong_combined();
  received.release();
  run_yardstick(&both_, {&dispatch_bytes_, &combine_bytes_});
}

void LatencyBenchRank::combine(const Routing& routing) {
  plan_.begin_combine(tensors_.combine_args(routing, tensors_.expert_rows())).complete();
}

std::int64_t LatencyBenchRank::wrong_received(const Received& received) const {
  if (!setup_.options.check) return 0;
  const std::int64_t num_wrong =
      count_wrong_received(setup_, rank_, delivered_by(received, static_cast<int>(setup_.shape.lanes.size())));
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

LatencyBenchRank::YardstickTimes LatencyBenchRank::run_yardstick_part(const RowBytes& bytes, int num_round_trips) {
  const Clock::time_point start = Clock::now();
  copies_->gather(bytes.gathered);
  for (std::size_t peer = 0; peer < bytes.sent.size(); ++peer) copies_->send(static_cast<int>(peer), bytes.sent[peer]);
  const Clock::time_point sent = Clock::now();
  flags_->run(num_round_trips);
  const Clock::time_point flags_end = Clock::now();
  copies_->deliver(bytes.received, bytes.delivered);
  const Clock::time_point end = Clock::now();
  return {.flags = microseconds_between(sent, flags_end),
          .memcpy = microseconds_between(start, sent) + microseconds_between(flags_end, end)};
}

void LatencyBenchRank::run_yardstick(LatencyMeasurement* measurement, const std::vector<const RowBytes*>& parts) {
  line_up();
  YardstickTimes times;
  for (const RowBytes* part : parts) {
    const YardstickTimes of_part = run_yardstick_part(*part, parts.size() == 1 ? 2 : 1);
    times.flags += of_part.flags;
    times.memcpy += of_part.memcpy;
  }
  if (warming_up_) return;
  measurement->flag_microseconds.push_back(times.flags);
  measurement->memcpy_microseconds.push_back(times.memcpy);
}

}  // namespace

namespace {

// Rows of the layout that hold a token; a token that all its experts on the rank have dropped counts as one.
std::size_t num_layout_rows(const BenchSetup& setup, const ExpectedRank& own) {
  if (setup.shape.layout == Layout::kCompact) return own.rows.size();
  const auto num_kept =
      std::count_if(own.pairs.begin(), own.pairs.end(), [](const ExpectedPair& pair) { return pair.position >= 0; });
  return std::max(static_cast<std::size_t>(num_kept), own.rows.size());
}

}  // namespace

RowBytes bytes_of_dispatch(const BenchSetup& setup, int rank) {
  const auto row_bytes = static_cast<std::size_t>(setup.dispatch_row_bytes);
  const ExpectedRank& own = setup.expected[static_cast<std::size_t>(rank)];
  RowBytes bytes;
  for (int peer = 0; peer < setup.num_ranks; ++peer) {
    const ExpectedRank& destination = setup.expected[static_cast<std::size_t>(peer)];
    bytes.sent.push_back(static_cast<std::size_t>(destination.rows_from(rank)) * row_bytes);
    bytes.received.push_back(static_cast<std::size_t>(own.rows_from(peer)) * row_bytes);
  }
  bytes.delivered = num_layout_rows(setup, own) * row_bytes;
  return bytes;
}

RowBytes bytes_of_combine(const BenchSetup& setup, int rank) {
  const auto row_bytes = static_cast<std::size_t>(setup.combine_row_bytes);
  const ExpectedRank& own = setup.expected[static_cast<std::size_t>(rank)];
  RowBytes bytes;
  bytes.gathered = (num_layout_rows(setup, own) - own.rows.size()) * row_bytes;
  for (int peer = 0; peer < setup.num_ranks; ++peer) {
    const ExpectedRank& other = setup.expected[static_cast<std::size_t>(peer)];
    bytes.sent.push_back(static_cast<std::size_t>(own.rows_from(peer)) * row_bytes);
    bytes.received.push_back(static_cast<std::size_t>(other.rows_from(rank)) * row_bytes);
  }
  bytes.delivered = sum_of(bytes.received);
  return bytes;
}

namespace {

// With room for every operation of every rank.
RowCopies make_copies(const std::vector<BenchSetup>& setups, const Group& group) {
  std::size_t max_sent = 0;
  std::size_t max_copied = 0;
  for (const BenchSetup& setup : setups) {
    for (int rank = 0; rank < setup.num_ranks; ++rank) {
      for (const RowBytes& bytes : {bytes_of_dispatch(setup, rank), bytes_of_combine(setup, rank)}) {
        for (const std::size_t sent : bytes.sent) max_sent = std::max(max_sent, sent);
        max_copied = std::max({max_copied, bytes.gathered, bytes.delivered});
      }
    }
  }
  return {group, max_sent, max_copied};
}

}  // namespace

std::vector<std::vector<LatencyMeasurement>> measure_latency_rank(const std::vector<BenchSetup>& setups, const Group& group) {
  const Plan plan = group.plan(setups.front().shape);
  StartLine start_line(group);
  FlagRoundTrips flags(group);
  RowCopies copies = make_copies(setups, group);
  const int num_iterations = setups.front().num_warmups + setups.front().num_iterations;
  std::optional<Progress> progress;
  if (group.rank() == 0) progress.emplace("bench: iterations", num_iterations * static_cast<int>(setups.size()));
  std::vector<std::vector<LatencyMeasurement>> measurements;
  for (const BenchSetup& setup : setups) {
    LatencyBenchRank bench_rank(setup, group, plan, &start_line, &flags, &copies);
    for (int i = 0; i < num_iterations; ++i) {
      bench_rank.run_iteration(i < setup.num_warmups);
      if (progress) progress->advance();
    }
    measurements.push_back(bench_rank.take());
  }
  return measurements;
}

}  // namespace tokenyard::cli
