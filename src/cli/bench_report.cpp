#include "cli/bench_report.hpp"

#include <fmt/core.h>

#include "cli/bench_configuration.hpp"
#include "cli/statistics.hpp"
#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

const Record* find_operation(const std::vector<Record>& results, const std::string& operation) {
  for (const Record& result : results) {
    if (find(result, "operation") == Value(operation)) return &result;
  }
  return nullptr;
}

}  // namespace

OperationTotals bytes_of_operation(const BenchSetup& setup, const std::string& operation) {
  OperationTotals totals;
  totals.operation = operation;
  if (operation == "memcpy") {
    totals.local_bytes = (setup.num_wire_rows() + setup.num_local_rows()) * setup.dispatch_row_bytes;
    return totals;
  }
  const bool is_combine = operation.starts_with("combine");
  const std::int64_t row_bytes = is_combine ? setup.combine_row_bytes : setup.dispatch_row_bytes;
  totals.wire_bytes = setup.num_wire_rows() * row_bytes;
  totals.local_bytes = setup.num_local_rows() * row_bytes;
  return totals;
}

Record to_result(const BenchSetup& setup, const OperationTotals& totals) {
  const Summary summary = summarize(totals.microseconds);
  const double bytes_per_rank = static_cast<double>(totals.wire_bytes + totals.local_bytes) / setup.num_ranks;
  return {{"operation", totals.operation},
          {"p50_us", summary.p50},
          {"p99_us", summary.p99},
          {"max_us", summary.max},
          {"wire_bytes", totals.wire_bytes},
          {"local_bytes", totals.local_bytes},
          {"gb_per_s", bytes_per_rank / summary.p50 * 1e-3},
          {"wrong_rows", setup.options.check ? Value(totals.wrong_rows) : Value()}};
}

Record bench_header(const BenchSetup& setup) {
  const BenchOptions& options = setup.options;
  Record header =
      configuration_record(setup, {{"tokens", setup.num_tokens}},
                           {{"capacity", options.recv_capacity}, {"overflow", options.overflow}, {"output", options.output}});
  header.emplace_back("dispatch_rows", setup.num_wire_rows() + setup.num_local_rows());
  return header;
}

std::string bench_heading(const BenchSetup& setup) {
  const BenchOptions& options = setup.options;
  std::string text = fmt::format("tokenyard {} bench: {} mode on {}\n", version(), options.mode, setup.rank_description);
  text += shape_line(setup, with_commas(setup.num_tokens));
  text += fmt::format("  routing     {}, seed {}: {} rows cross between ranks and {} stay, one per (token, destination rank)\n",
                      options.routing, options.seed, with_commas(setup.num_wire_rows()), with_commas(setup.num_local_rows()));
  text += rows_line(setup);
  text += fmt::format("  results in  {}\n", setup.caller_outputs ? "the caller's memory" : "the slot (zero copy)");
  text += cores_line(setup);
  text += fmt::format("  iterations  {} after {} that warm up, with a barrier and {} caches before every operation{}\n",
                      setup.num_iterations, setup.num_warmups, setup.cold_caches ? "cold" : "warm",
                      options.check ? "; every row is checked" : "");
  text +=
      "\n"
      "  dispatch          from top-k ids to received rows, counts exchanged on the way\n"
      "  dispatch_cached   other tensors the way that an earlier dispatch went\n";
  if (setup.can_combine()) text += "  combine           from rows in the caller's memory to one sum per token\n";
  if (setup.can_combine_in_place()) text += "  combine_in_place  the same from rows in the slot, read there by their sources\n";
  text += "  memcpy            the ceiling: all ranks at once copy as many bytes as dispatch brings them, each by one memcpy\n";
  if (options.against == "mpi") {
    text +=
        "  mpi_alltoallv     OpenMPI: pack the same rows per rank, exchange counts, MPI_Alltoallv of rows, ids and weights\n";
  }
  text +=
      "\n"
      "  p50_us, p99_us, max_us   microseconds of the slowest rank of each iteration: median, 99th percentile, maximum\n"
      "  wire_bytes, local_bytes  bytes of rows that crossed between ranks, and that stayed on theirs, of all ranks together\n"
      "  gb_per_s                 (wire_bytes + local_bytes) / ranks / p50_us, in 10^9 bytes per second\n"
      "  wrong_rows               rows that differ from what plain loops expect, over all ranks and iterations; - without "
      "--check\n"
      "\n";
  return text;
}

Record bench_ratios(const std::vector<Record>& results) {
  Record ratios;
  const Record* dispatch = find_operation(results, "dispatch");
  for (const std::string reference : {"memcpy", "mpi_alltoallv"}) {
    const Record* other = find_operation(results, reference);
    if (dispatch == nullptr || other == nullptr) continue;
    const double reference_rate = find(*other, "gb_per_s").number();
    const Value ratio = reference_rate > 0 ? Value(find(*dispatch, "gb_per_s").number() / reference_rate) : Value();
    ratios.emplace_back("dispatch_over_" + reference, ratio);
  }
  return ratios;
}

std::string ratio_lines(const Record& ratios) {
  std::string text = "\n";
  for (const auto& [name, value] : ratios) {
    text +=
        fmt::format("  {}: {} (bytes per second of dispatch as a multiple of {}'s)\n", name, to_cell(value), name.substr(14));
  }
  return text;
}

}  // namespace tokenyard::cli
