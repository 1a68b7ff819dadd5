#include "cli/demo_setup.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "cli/shape_options.hpp"
#include "cli/usage_error.hpp"

namespace tokenyard::cli {
namespace {

Payload parse_payload(const std::string& dtype) {
  if (dtype == "float32") return Payload::kFloat32;
  if (dtype == "bfloat16") return Payload::kBFloat16;
  if (dtype == "fp8") return Payload::kFloat8;
  throw UsageError(fmt::format("--dtype {}: the demonstration knows float32, bfloat16 and fp8", dtype));
}

}  // namespace

std::int64_t DemoSetup::shard_begin(int rank) const {
  const std::int64_t shares_before = std::int64_t{rank} * (rank + 1);
  const std::int64_t shares = std::int64_t{num_ranks} * (num_ranks + 1);
  return num_tokens() * shares_before / shares;
}

std::int64_t DemoSetup::num_batches() const {
  std::int64_t most = 0;
  for (int rank = 0; rank < num_ranks; ++rank) most = std::max(most, shard_begin(rank + 1) - shard_begin(rank));
  return (most + shape.max_tokens - 1) / shape.max_tokens;
}

DemoSetup make_demo_setup(const DemoOptions& options, int num_ranks) {
  if (options.top_k > options.num_experts) {
    throw UsageError(fmt::format("--top-k {} is more than the {} experts of --experts", options.top_k, options.num_experts));
  }
  DemoSetup setup;
  setup.text_path = options.text_path;
  setup.text = split_text(read_text_file(options.text_path));
  if (setup.text.tokens.empty()) fail_argument("\"{}\" has no words and no punctuation: give a text", options.text_path);
  setup.record_path = options.record_path;
  setup.num_ranks = num_ranks;
  setup.payload = parse_payload(options.dtype);
  setup.shared_expert = options.shared_expert;
  setup.model = {.hidden = options.hidden,
                 .intermediate = options.intermediate == 0 ? 2 * options.hidden : options.intermediate,
                 .num_experts = options.num_experts,
                 .seed = options.seed};
  setup.shape.num_experts = options.num_experts;
  setup.shape.top_k = options.top_k;
  setup.shape.mode = parse_mode(options.mode);
  const bool latency = setup.shape.mode == Mode::kLatency;
  setup.shape.max_tokens = options.max_tokens > 0 ? options.max_tokens : latency ? 32 : 256;
  setup.shape.lanes = lanes_of(options.dtype, options.hidden);
  setup.shape.combine = combine_lane_of(options.dtype, options.hidden);
  // In the other mode the ranks quantise before they dispatch.
  if (latency && setup.payload == Payload::kFloat8) {
    setup.shape.quantization = {.from = DataType::kFloat32, .format = ScaleFormat::kFloat32};
  }
  setup.shape.layout = parse_layout(options.layout);
  // Room for every token: the demonstration is about sums, and a dropped row would change them.
  if (setup.shape.layout == Layout::kExpertPadded) setup.shape.expert_capacity = num_ranks * setup.shape.max_tokens;
  setup.timeout = options.ranks.timeout();
  plan_sizes(setup.shape, num_ranks);  // for its errors, once and before any rank exists
  return setup;
}

}  // namespace tokenyard::cli
