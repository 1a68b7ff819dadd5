#include "cli/bench_latency.hpp"

#include <memory>
#include <optional>

#include "cli/bench_latency_rank.hpp"
#include "cli/bench_latency_report.hpp"
#include "cli/bench_output.hpp"
#include "cli/core_binding.hpp"
#include "cli/gather.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {
namespace {

// Collective: what all ranks measured of the same operation.
std::vector<LatencyMeasurement> gather_measurement(const BenchSetup& setup, Exchange& exchange,
                                                   const LatencyMeasurement& mine) {
  const auto timeout = setup.options.ranks.timeout();
  const auto times = gather(exchange, mine.microseconds, timeout);
  const auto flag_times = gather(exchange, mine.flag_microseconds, timeout);
  const auto memcpy_times = gather(exchange, mine.memcpy_microseconds, timeout);
  const auto numbers =
      gather(exchange, std::vector{mine.gathered_bytes, mine.sent_bytes, mine.delivered_bytes, mine.wrong_rows}, timeout);
  std::vector<LatencyMeasurement> of_ranks;
  for (std::size_t rank = 0; rank < times.size(); ++rank) {
    of_ranks.push_back({.operation = mine.operation,
                        .gathered_bytes = numbers[rank].at(0),
                        .sent_bytes = numbers[rank].at(1),
                        .delivered_bytes = numbers[rank].at(2),
                        .microseconds = times[rank],
                        .flag_microseconds = flag_times[rank],
                        .memcpy_microseconds = memcpy_times[rank],
                        .wrong_rows = numbers[rank].at(3)});
  }
  return of_ranks;
}

int report(const std::vector<BenchSetup>& setups, const std::vector<Record>& results) {
  const Record ratios = worst_ratios(results);
  print(bench_table(results) + "\n");
  for (const auto& [name, ratio] : ratios) print("  " + name + ": " + to_cell(ratio) + "\n");
  const std::string& path = setups.front().options.json_path;
  if (!path.empty()) {
    Record header = latency_bench_header(setups);
    header.insert(header.end(), ratios.begin(), ratios.end());
    write_results(path, header, results);
  }
  if (!has_wrong_rows(results)) return 0;
  print("  FAILED: there are wrong rows\n");
  return 1;
}

int run_rank(const std::vector<BenchSetup>& setups, const std::shared_ptr<Exchange>& exchange) {
  const bool is_speaker = exchange->rank() == 0;
  if (is_speaker) print(latency_bench_heading(setups));
  std::vector<Record> results;
  {
    const Group group = Group::create(exchange, {.timeout = setups.front().options.ranks.timeout(), .domain = {}});
    std::optional<CoreBinding> binding;  // made after the group, which counts cores to choose how its ranks wait
    if (setups.front().bound) binding.emplace(group.rank());
    const auto measurements = measure_latency_rank(setups, group);
    for (std::size_t i = 0; i < setups.size(); ++i) {
      for (const LatencyMeasurement& measurement : measurements[i]) {
        results.push_back(to_latency_result(setups[i], gather_measurement(setups[i], *exchange, measurement)));
      }
    }
  }
  if (is_speaker) return report(setups, results);
  return has_wrong_rows(results) ? 1 : 0;
}

}  // namespace

int run_latency_bench(const RankSource& source, const std::vector<BenchSetup>& setups) {
  return start_ranks(source, [&](std::shared_ptr<Exchange> exchange) { return run_rank(setups, exchange); });
}

}  // namespace tokenyard::cli
