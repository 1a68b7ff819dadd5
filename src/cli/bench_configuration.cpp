#include "cli/bench_configuration.hpp"

#include <fmt/core.h>

#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {

Record configuration_record(const BenchSetup& setup, const Record& tokens, const Record& results) {
  const BenchOptions& options = setup.options;
  Record record{{"tool", "tokenyard bench"},
                {"version", version()},
                {"mode", options.mode},
                {"ranks", setup.num_ranks},
                {"launch", setup.rank_description}};
  const auto append = [&record](const Record& fields) { record.insert(record.end(), fields.begin(), fields.end()); };
  append(tokens);
  append({{"hidden", options.hidden},
          {"experts", options.num_experts},
          {"top_k", options.top_k},
          {"dtype", options.dtype},
          {"quantize", options.quantize},
          {"dispatch_row_bytes", setup.dispatch_row_bytes},
          {"combine_row_bytes", setup.combine_row_bytes},
          {"layout", options.layout},
          {"alignment", options.alignment},
          {"expert_capacity", setup.shape.expert_capacity}});
  append(results);
  append({{"bound", setup.bound},
          {"caches", setup.cold_caches ? "cold" : "warm"},
          {"routing", options.routing},
          {"seed", options.seed},
          {"iters", setup.num_iterations},
          {"warmup", setup.num_warmups},
          {"check", options.check}});
  return record;
}

std::string shape_line(const BenchSetup& setup, const std::string& tokens) {
  const BenchOptions& options = setup.options;
  return fmt::format("  shape       {} tokens per rank, hidden {} {}, {} experts, top-{}, layout {}{}\n", tokens,
                     with_commas(options.hidden), options.dtype, options.num_experts, options.top_k, options.layout,
                     setup.shape.layout == Layout::kExpertPadded
                         ? fmt::format(" with {} rows per expert", with_commas(setup.shape.expert_capacity))
                         : "");
}

std::string rows_line(const BenchSetup& setup) {
  std::string line =
      fmt::format("  rows        {} bytes in dispatch{}", with_commas(setup.dispatch_row_bytes),
                  setup.shape.quantization.has_value() ? fmt::format(", which quantises to {}", setup.options.quantize) : "");
  line += setup.can_combine() ? fmt::format(", {} bytes in combine\n", with_commas(setup.combine_row_bytes))
                              : "; combine is left out, because such rows cannot be summed\n";
  return line;
}

std::string cores_line(const BenchSetup& setup) {
  return fmt::format("  cores       {}\n",
                     setup.bound ? "each rank is bound to one of its own" : "the ranks are not bound to cores");
}

}  // namespace tokenyard::cli
