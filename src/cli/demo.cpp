#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "cli/demo_rank.hpp"
#include "cli/demo_report.hpp"
#include "cli/demo_setup.hpp"
#include "cli/gather.hpp"
#include "cli/npy.hpp"
#include "cli/progress.hpp"
#include "cli/start_ranks.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {
namespace {

// Rank 0 gets everyone's results by one-sided puts: three arrays, one after the other, of which each rank writes its tokens'
// part.
struct Collected {
  explicit Collected(const DemoSetup& setup)
      : result_bytes(setup.model.hidden * sizeof(float)),
        id_bytes(setup.shape.top_k * sizeof(std::int64_t)),
        weight_bytes(setup.shape.top_k * sizeof(float)),
        id_offset((setup.num_tokens() * result_bytes + 63) / 64 * 64),
        weight_offset(id_offset + setup.num_tokens() * id_bytes),
        num_bytes(weight_offset + setup.num_tokens() * weight_bytes) {}

  std::size_t result_bytes;  // each per token
  std::size_t id_bytes;
  std::size_t weight_bytes;
  std::size_t id_offset;
  std::size_t weight_offset;
  std::size_t num_bytes;
};

void put_results(const DemoSetup& setup, const Collected& collected, const Window& window, const DemoRank& rank_layer) {
  const auto first = static_cast<std::size_t>(setup.shard_begin(window.rank()));
  const std::size_t num_tokens = rank_layer.topk_idx().size() / static_cast<std::size_t>(setup.shape.top_k);
  if (num_tokens == 0) return;
  window.put(0, first * collected.result_bytes, rank_layer.results().data(), num_tokens * collected.result_bytes);
  window.put(0, collected.id_offset + first * collected.id_bytes, rank_layer.topk_idx().data(),
             num_tokens * collected.id_bytes);
  window.put(0, collected.weight_offset + first * collected.weight_bytes, rank_layer.topk_weights().data(),
             num_tokens * collected.weight_bytes);
}

void check_results(const DemoSetup& setup, const Collected& collected, const std::byte* memory, DemoOutcome& outcome) {
  const ReferenceInput input{.model = setup.model,
                             .payload = setup.payload,
                             .shared_expert = setup.shared_expert,
                             .num_ranks = setup.num_ranks,
                             .top_k = setup.shape.top_k,
                             .tokens = &setup.text.tokens,
                             .topk_idx = reinterpret_cast<const std::int64_t*>(memory + collected.id_offset),
                             .topk_weights = reinterpret_cast<const float*>(memory + collected.weight_offset)};
  Progress progress("reference: experts", setup.shape.num_experts);
  outcome.num_pairs = setup.num_tokens() * setup.shape.top_k;
  outcome.num_wrong_choices = count_wrong_choices(input);
  outcome.factor = error_factor(input);
  outcome.comparison =
      compare(reinterpret_cast<const float*>(memory), compute_reference(input, [&] { progress.advance(); }), outcome.factor);
}

void record_choices(const DemoSetup& setup, const Collected& collected, const std::byte* memory) {
  NpyArray ids{.dtype = DataType::kInt64, .num_rows = setup.num_tokens(), .num_columns = setup.shape.top_k, .bytes = {}};
  ids.bytes.assign(memory + collected.id_offset, memory + collected.weight_offset);
  write_npy(setup.record_path, ids);
  std::printf("  recorded the experts of all tokens in %s\n", setup.record_path.c_str());
}

int run_rank(const DemoSetup& setup, const std::shared_ptr<Exchange>& exchange) {
  const bool is_speaker = exchange->rank() == 0;
  if (is_speaker) {
    std::fputs(demo_heading(setup).c_str(), stdout);
    std::fflush(stdout);
  }
  const Group group = Group::create(exchange, {.timeout = setup.timeout, .domain = {}});
  const Plan plan = group.plan(setup.shape);
  const Collected collected(setup);
  const Window window = group.window(collected.num_bytes);
  DemoRank rank_layer(setup, plan, group.rank());

  group.barrier();
  const auto start = std::chrono::steady_clock::now();
  {
    std::optional<Progress> progress;
    if (is_speaker) progress.emplace("layer: calls", setup.num_batches());
    for (std::int64_t batch = 0; batch < setup.num_batches(); ++batch) {
      rank_layer.run_batch();
      if (progress) progress->advance();
    }
  }
  put_results(setup, collected, window, rank_layer);
  window.quiet();
  group.barrier();

  DemoOutcome outcome;
  outcome.layer_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  outcome.rows_from = gather(*exchange, rank_layer.rows_from(), setup.timeout);
  if (!is_speaker) return 0;

  check_results(setup, collected, window.local(), outcome);
  std::fputs(demo_traffic(setup, outcome).c_str(), stdout);
  if (!setup.record_path.empty()) record_choices(setup, collected, window.local());
  std::fputs(demo_verdict(setup, outcome).c_str(), stdout);
  std::fflush(stdout);
  return outcome.ok() ? 0 : 1;
}

}  // namespace

int run_demo(const DemoOptions& options) {
  const RankSource source = choose_ranks(options.ranks, DemoOptions::kDefaultRanks);
  DemoSetup setup = make_demo_setup(options, source.launch.num_ranks);
  setup.rank_description = source.description();
  return start_ranks(source, [&](std::shared_ptr<Exchange> exchange) { return run_rank(setup, exchange); });
}

}  // namespace tokenyard::cli
