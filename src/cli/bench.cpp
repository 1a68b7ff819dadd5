#include <optional>
#include <vector>

#include "cli/bench_latency.hpp"
#include "cli/bench_output.hpp"
#include "cli/bench_rank.hpp"
#include "cli/bench_report.hpp"
#include "cli/bench_setup.hpp"
#include "cli/core_binding.hpp"
#include "cli/gather.hpp"
#include "cli/gpu_bench.hpp"
#include "cli/mpi_comparison.hpp"
#include "cli/start_ranks.hpp"
#include "cli/statistics.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {
namespace {

// Collective: every rank gets the line of the operation.
Record gather_result(const BenchSetup& setup, Exchange& exchange, const Measurement& measurement) {
  const std::chrono::milliseconds timeout = setup.options.ranks.timeout();
  OperationTotals totals = bytes_of_operation(setup, measurement.operation);
  totals.microseconds = slowest_of_ranks(gather(exchange, measurement.microseconds, timeout));
  for (const auto& wrong_rows : gather(exchange, std::vector{measurement.wrong_rows}, timeout))
    totals.wrong_rows += wrong_rows.at(0);
  return to_result(setup, totals);
}

int report(const BenchSetup& setup, const std::optional<MpiBaseline>& baseline, std::vector<Record> results) {
  if (baseline) results.push_back(run_mpi_baseline(*baseline, setup));
  const Record ratios = bench_ratios(results);
  print(bench_table(results));
  print(ratio_lines(ratios));
  if (!setup.options.json_path.empty()) {
    Record header = bench_header(setup);
    header.insert(header.end(), ratios.begin(), ratios.end());
    write_results(setup.options.json_path, header, results);
  }
  if (!has_wrong_rows(results)) return 0;
  print("  FAILED: there are wrong rows\n");
  return 1;
}

int run_rank(const BenchSetup& setup, const std::optional<MpiBaseline>& baseline, const std::shared_ptr<Exchange>& exchange) {
  const bool is_speaker = exchange->rank() == 0;
  if (is_speaker) print(bench_heading(setup));
  std::vector<Record> results;
  {
    const Group group = Group::create(exchange, {.timeout = setup.options.ranks.timeout(), .domain = {}});
    std::optional<CoreBinding> binding;  // made after the group, which counts cores to choose how its ranks wait
    if (setup.bound) binding.emplace(group.rank());
    const std::vector<Measurement> measurements = measure_rank(setup, group);
    for (const Measurement& measurement : measurements) results.push_back(gather_result(setup, *exchange, measurement));
  }
  // The other ranks are done here, and disturb the baseline no more.
  if (is_speaker) return report(setup, baseline, std::move(results));
  return has_wrong_rows(results) ? 1 : 0;
}

}  // namespace

int run_bench(const BenchOptions& options) {
  check_device_options(options);
  if (options.device == "cuda") return run_gpu_bench(options);
  const RankSource source = choose_ranks(options.ranks, BenchOptions::kDefaultRanks);
  std::vector<BenchSetup> setups = make_bench_setups(options, source.launch.num_ranks);
  for (BenchSetup& setup : setups) {
    setup.rank_description = source.description();
    if (source.started) setup.bound = false;  // that is the affair of whoever started the ranks
  }
  if (setups.front().shape.mode == Mode::kLatency) return run_latency_bench(source, setups);
  const BenchSetup& setup = setups.front();
  std::optional<MpiBaseline> baseline;
  if (!options.against.empty()) baseline = find_mpi_baseline();
  return start_ranks(source, [&](std::shared_ptr<Exchange> exchange) { return run_rank(setup, baseline, exchange); });
}

}  // namespace tokenyard::cli
