#include "cli/demo_report.hpp"

#include <fmt/core.h>

#include "cli/shape_options.hpp"
#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kMostColumns = 16;  // ranks; beyond, a table of all pairs is no longer small

std::string bytes_text(std::int64_t num_bytes) {
  return fmt::format("{} ({} bytes)", human_bytes(num_bytes), with_commas(num_bytes));
}

std::string rank_name(int rank) { return fmt::format("rank {}", rank); }

std::string traffic_table(const DemoSetup& setup, const DemoOutcome& outcome) {
  std::vector<std::string> heading{"from \\ to"};
  for (int destination = 0; destination < setup.num_ranks; ++destination) heading.push_back(rank_name(destination));
  heading.emplace_back("sent");
  Table table(std::move(heading));
  std::vector<std::int64_t> received(static_cast<std::size_t>(setup.num_ranks));
  std::int64_t total = 0;
  for (int source = 0; source < setup.num_ranks; ++source) {
    std::vector<std::string> cells{rank_name(source)};
    std::int64_t sent = 0;
    for (int destination = 0; destination < setup.num_ranks; ++destination) {
      const std::int64_t num_rows = outcome.rows_from[destination][source];
      cells.push_back(with_commas(num_rows));
      received[destination] += num_rows;
      sent += num_rows;
    }
    cells.push_back(with_commas(sent));
    total += sent;
    table.add_row(std::move(cells));
  }
  table.add_rule();
  std::vector<std::string> cells{"received"};
  for (std::int64_t num_rows : received) cells.push_back(with_commas(num_rows));
  cells.push_back(with_commas(total));
  table.add_row(std::move(cells));
  return table.to_string(4);
}

}  // namespace

std::string demo_heading(const DemoSetup& setup) {
  std::string shards;
  for (int rank = 0; rank < setup.num_ranks && rank < kMostColumns; ++rank) {
    shards += fmt::format("{}{}", rank == 0 ? "" : ", ", with_commas(setup.shard_begin(rank + 1) - setup.shard_begin(rank)));
  }
  if (setup.num_ranks > kMostColumns) shards += ", ...";
  std::string text = fmt::format("tokenyard {} demo: one Mixture-of-Experts layer over {}\n", version(), setup.text_path);
  text += fmt::format("  text     {} tokens (words and punctuation), {} of them different\n", with_commas(setup.num_tokens()),
                      with_commas(static_cast<std::int64_t>(setup.text.vocabulary.size())));
  text += fmt::format("  ranks    {}, holding {} tokens\n", setup.rank_description, shards);
  text += fmt::format("  layer    {} SwiGLU experts of width {}, top-{} of a softmax gate, hidden {}{}; seed {}\n",
                      setup.shape.num_experts, setup.model.intermediate, setup.shape.top_k, setup.model.hidden,
                      setup.shared_expert ? ", and a shared expert" : "", setup.model.seed);
  const char* payload = setup.payload == Payload::kFloat8 ? "FP8 e4m3 with a float32 scale per 128 values"
                                                          : to_string(setup.shape.lanes[0].dtype);
  text += fmt::format("  payload  {}, {} bytes a row there; {}, {} bytes a row back\n", payload,
                      with_commas(row_bytes(setup.shape.lanes)), to_string(setup.shape.combine->dtype),
                      with_commas(static_cast<std::int64_t>(setup.shape.combine->row_bytes())));
  text += fmt::format(
      "  calls    {} x (gate, dispatch, experts, combine) in {} mode, at most {} tokens a rank and call, layout {}\n",
      setup.num_batches(), to_string(setup.shape.mode), with_commas(setup.shape.max_tokens), to_string(setup.shape.layout));
  return text;
}

std::string demo_traffic(const DemoSetup& setup, const DemoOutcome& outcome) {
  std::int64_t num_rows = 0;
  std::int64_t num_own_rows = 0;
  for (int destination = 0; destination < setup.num_ranks; ++destination) {
    for (int source = 0; source < setup.num_ranks; ++source) {
      num_rows += outcome.rows_from[destination][source];
      if (source == destination) num_own_rows += outcome.rows_from[destination][source];
    }
  }
  const std::int64_t dispatch_bytes = row_bytes(setup.shape.lanes);
  const auto combine_bytes = static_cast<std::int64_t>(setup.shape.combine->row_bytes());
  std::string text = "\n  traffic: rows that dispatch moved, one per token and destination rank\n";
  if (setup.num_ranks <= kMostColumns) text += traffic_table(setup, outcome);
  text += fmt::format("    {} rows carried {} (token, expert) pairs\n", with_commas(num_rows), with_commas(outcome.num_pairs));
  text += fmt::format("    dispatch: {} between ranks, {} stayed local\n",
                      bytes_text((num_rows - num_own_rows) * dispatch_bytes), bytes_text(num_own_rows * dispatch_bytes));
  text += fmt::format("    combine:  {} between ranks, {} stayed local\n",
                      bytes_text((num_rows - num_own_rows) * combine_bytes), bytes_text(num_own_rows * combine_bytes));
  text += fmt::format("    the layer took {:.2f} s, experts included\n", outcome.layer_seconds);
  return text;
}

std::string demo_verdict(const DemoSetup& setup, const DemoOutcome& outcome) {
  const Comparison& comparison = outcome.comparison;
  std::string text = "\n  check: against the same layer computed in one process by plain loops\n";
  text += fmt::format("    gate: {} of {} tokens chose other experts or weights than the reference\n",
                      with_commas(outcome.num_wrong_choices), with_commas(setup.num_tokens()));
  text += fmt::format("    largest absolute error: {}\n", comparison.largest_error);
  if (setup.payload == Payload::kFloat32) {
    text += "    bound: 0, because both sum in the same order in float32\n";
  } else {
    text += fmt::format(
        "    bound there: {:.4g} = {:.6f} x sum of |weight x row|: three roundings to bfloat16 of at most 2^-8 each,\n"
        "      and float32 sums; the inputs of both are rounded to {} alike\n",
        comparison.bound_there, outcome.factor, setup.payload == Payload::kFloat8 ? "FP8" : "bfloat16");
    text += fmt::format("    closest to its bound: {:.1f} % of it\n", comparison.largest_share * 100);
  }
  text += fmt::format("    elements beyond their bound: {} of {}\n", with_commas(comparison.num_beyond),
                      with_commas(setup.num_tokens() * setup.model.hidden));
  text += outcome.ok() ? "OK\n" : "FAILED\n";
  return text;
}

}  // namespace tokenyard::cli
