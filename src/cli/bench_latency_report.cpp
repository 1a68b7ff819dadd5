#include "cli/bench_latency_report.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "cli/bench_configuration.hpp"
#include "cli/statistics.hpp"
#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

using Microseconds = std::vector<double>;

// By iteration: the slowest rank's.
Microseconds slowest(const std::vector<LatencyMeasurement>& of_ranks, Microseconds LatencyMeasurement::* times) {
  std::vector<Microseconds> of_each;
  for (const LatencyMeasurement& of_rank : of_ranks) of_each.push_back(of_rank.*times);
  return slowest_of_ranks(of_each);
}

Microseconds slowest_yardstick(const std::vector<LatencyMeasurement>& of_ranks) {
  std::vector<Microseconds> of_each;
  for (const LatencyMeasurement& of_rank : of_ranks) {
    Microseconds& sums = of_each.emplace_back(of_rank.flag_microseconds);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += of_rank.memcpy_microseconds[i];
  }
  return slowest_of_ranks(of_each);
}

}  // namespace

Record to_latency_result(const BenchSetup& setup, const std::vector<LatencyMeasurement>& of_ranks) {
  const Summary operation = summarize(slowest(of_ranks, &LatencyMeasurement::microseconds));
  const double yardstick = summarize(slowest_yardstick(of_ranks)).p50;
  std::int64_t gathered_bytes = 0;
  std::int64_t sent_bytes = 0;
  std::int64_t delivered_bytes = 0;
  std::int64_t wrong_rows = 0;
  for (const LatencyMeasurement& of_rank : of_ranks) {
    gathered_bytes += of_rank.gathered_bytes;
    sent_bytes += of_rank.sent_bytes;
    delivered_bytes += of_rank.delivered_bytes;
    wrong_rows += of_rank.wrong_rows;
  }
  return {{"tokens", setup.num_tokens},
          {"operation", of_ranks.front().operation},
          {"p50_us", operation.p50},
          {"p99_us", operation.p99},
          {"flags_us", summarize(slowest(of_ranks, &LatencyMeasurement::flag_microseconds)).p50},
          {"memcpy_us", summarize(slowest(of_ranks, &LatencyMeasurement::memcpy_microseconds)).p50},
          {"yardstick_us", yardstick},
          {"ratio", operation.p50 / yardstick},
          {"gathered_bytes", gathered_bytes},
          {"sent_bytes", sent_bytes},
          {"delivered_bytes", delivered_bytes},
          {"wrong_rows", setup.options.check ? Value(wrong_rows) : Value()}};
}

Record latency_bench_header(const std::vector<BenchSetup>& setups) {
  const BenchSetup& setup = setups.front();
  return configuration_record(setup, {{"max_tokens", setup.shape.max_tokens}}, {});
}

std::string latency_bench_heading(const std::vector<BenchSetup>& setups) {
  const BenchSetup& setup = setups.front();
  const BenchOptions& options = setup.options;
  std::string text = fmt::format("tokenyard {} bench: {} mode on {}\n", version(), options.mode, setup.rank_description);
  text += shape_line(setup, "at most " + with_commas(setup.shape.max_tokens));
  text += fmt::format("  routing     {}, seed {}\n", options.routing, options.seed);
  text += rows_line(setup);
  text += cores_line(setup);
  text += fmt::format("  iterations  {} after {} that warm up; before every operation all ranks line up, with {}{}\n",
                      setup.num_iterations, setup.num_warmups,
                      setup.cold_caches ? "cold caches" : "the caches as the operation before left them",
                      options.check ? "; every row is checked" : "");
  text +=
      "\n"
      "  dispatch   begin_dispatch and complete: from top-k ids to received rows in their layout\n"
      "  combine    begin_combine and complete: from rows in the caller's memory to one sum per token\n"
      "  both       a dispatch and directly after it a combine\n"
      "  yardstick  between the operations of each iteration: two bare flag round trips between pairs of ranks (signal, wait,\n"
      "             answer, wait), and memcpys of the same bytes of rows: gathered, then sent into the memory of the ranks "
      "that\n"
      "             they are for, then delivered from there. Each step counts what it reads or writes, whichever is more\n"
      "\n"
      "  p50_us, p99_us   microseconds of the slowest rank of each iteration: median, 99th percentile\n"
      "  flags_us         of the yardstick's two round trips: median\n"
      "  memcpy_us        of the yardstick's memcpys: median\n"
      "  yardstick_us     of the two in the same iteration: median\n"
      "  ratio            p50_us / yardstick_us\n"
      "  sent_bytes       of rows written to the ranks that they are for, a rank's own included, by all ranks together:\n"
      "                   one per (token, destination rank), both in dispatch and, coming home, in combine\n"
      "  gathered_bytes   in combine: of experts' rows that are read, beyond the sums that are sent, by all ranks together\n"
      "  delivered_bytes  by all ranks together: in dispatch of received rows, in layouts by expert one per (token, expert),\n"
      "                   without gaps; in combine of received sums\n"
      "  wrong_rows       rows that differ from what plain loops expect, over all ranks and iterations; - without --check\n"
      "\n";
  return text;
}

Record worst_ratios(const std::vector<Record>& results) {
  Record worst;
  for (const Record& result : results) {
    const std::string name = "worst_" + find(result, "operation").text + "_ratio";
    const double ratio = find(result, "ratio").real;
    const auto entry = std::find_if(worst.begin(), worst.end(), [&](const auto& field) { return field.first == name; });
    if (entry == worst.end()) {
      worst.emplace_back(name, ratio);
    } else {
      entry->second = std::max(entry->second.real, ratio);
    }
  }
  return worst;
}

}  // namespace tokenyard::cli
