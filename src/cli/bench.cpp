#include <cerrno>
#include <cstdio>
#include <fstream>
#include <optional>
#include <system_error>

#include "base/fail.hpp"
#include "cli/bench_rank.hpp"
#include "cli/bench_report.hpp"
#include "cli/bench_setup.hpp"
#include "cli/core_binding.hpp"
#include "cli/gather.hpp"
#include "cli/json.hpp"
#include "cli/mpi_comparison.hpp"
#include "cli/start_ranks.hpp"
#include "cli/statistics.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {
namespace {

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// Collective: every rank gets the line of the operation.
Record gather_result(const BenchSetup& setup, Exchange& exchange, const Measurement& measurement) {
  const std::chrono::milliseconds timeout = setup.options.ranks.timeout();
  OperationTotals totals = bytes_of_operation(setup, measurement.operation);
  totals.microseconds = slowest_of_ranks(gather(exchange, measurement.microseconds, timeout));
  for (const auto& wrong_rows : gather(exchange, std::vector{measurement.wrong_rows}, timeout))
    totals.wrong_rows += wrong_rows.at(0);
  return to_result(setup, totals);
}

void write_json(const BenchSetup& setup, const std::vector<Record>& results, const Record& ratios) {
  Record header = bench_header(setup);
  header.insert(header.end(), ratios.begin(), ratios.end());
  errno = 0;
  std::ofstream file(setup.options.json_path, std::ios::trunc);
  file << to_json(header, "results", results);
  file.close();
  if (!file) {
    const int number = errno;
    fail(ErrorCode::kSystem, "cannot write \"{}\": {}", setup.options.json_path,
         std::generic_category().message(number == 0 ? EIO : number));
  }
}

bool has_wrong_rows(const std::vector<Record>& results) {
  for (const Record& result : results) {
    if (find(result, "wrong_rows").integer != 0) return true;
  }
  return false;
}

int report(const BenchSetup& setup, const std::optional<MpiBaseline>& baseline, std::vector<Record> results) {
  if (baseline) results.push_back(run_mpi_baseline(*baseline, setup));
  const Record ratios = bench_ratios(results);
  print(bench_table(results));
  print(ratio_lines(ratios));
  if (!setup.options.json_path.empty()) write_json(setup, results, ratios);
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
  const RankSource source = choose_ranks(options.ranks, BenchOptions::kDefaultRanks);
  BenchSetup setup = make_bench_setup(options, source.launch.num_ranks);
  setup.rank_description = source.description();
  if (source.started) setup.bound = false;  // that is the affair of whoever started the ranks
  std::optional<MpiBaseline> baseline;
  if (!options.against.empty()) baseline = find_mpi_baseline();
  return start_ranks(source, [&](std::shared_ptr<Exchange> exchange) { return run_rank(setup, baseline, exchange); });
}

}  // namespace tokenyard::cli
