#include "cli/bench_setup.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "cli/core_binding.hpp"
#include "cli/shape_options.hpp"
#include "cli/usage_error.hpp"

namespace tokenyard::cli {

bool BenchSetup::can_combine_in_place() const {
  return can_combine() && !caller_outputs && shape.layout == Layout::kCompact && shape.combine->dtype == shape.lanes[0].dtype;
}

std::int64_t BenchSetup::num_local_rows() const {
  std::int64_t num_rows = 0;
  for (int rank = 0; rank < num_ranks; ++rank) num_rows += expected[static_cast<std::size_t>(rank)].rows_from(rank);
  return num_rows;
}

std::int64_t BenchSetup::num_wire_rows() const {
  std::int64_t num_rows = 0;
  for (const ExpectedRank& rank : expected) num_rows += static_cast<std::int64_t>(rank.rows.size());
  return num_rows - num_local_rows();
}

BenchSetup make_bench_setup(const BenchOptions& options, int num_ranks) {
  if (options.mode != "throughput")
    throw UsageError(fmt::format("--mode {}: this build knows the mode throughput", options.mode));
  if (options.output != "slot" && options.output != "caller") {
    throw UsageError(fmt::format("--output {}: expected slot or caller", options.output));
  }
  if (!options.against.empty() && options.against != "mpi") {
    throw UsageError(fmt::format("--against {}: expected mpi", options.against));
  }
  if (options.bind != "core" && options.bind != "none")
    throw UsageError(fmt::format("--bind {}: expected core or none", options.bind));
  BenchSetup setup;
  setup.options = options;
  setup.bound = options.bind == "core" && has_core_for_each(num_ranks);
  setup.num_ranks = num_ranks;
  setup.caller_outputs = options.output == "caller";
  setup.shape.num_experts = options.num_experts;
  setup.shape.top_k = options.top_k;
  setup.shape.max_tokens = options.num_tokens;
  setup.shape.lanes = lanes_of(options.dtype, options.hidden);
  setup.shape.combine = combine_lane_of(options.dtype, options.hidden);
  setup.shape.layout = parse_layout(options.layout);
  setup.shape.expert_alignment = options.alignment;
  setup.shape.recv_capacity = options.recv_capacity;
  setup.shape.overflow = parse_overflow(options.overflow);
  setup.routing = make_routing(options.routing, {.num_ranks = num_ranks,
                                                 .num_tokens = options.num_tokens,
                                                 .num_experts = options.num_experts,
                                                 .top_k = options.top_k,
                                                 .seed = options.seed});
  if (setup.shape.layout == Layout::kExpertPadded) {
    setup.shape.expert_capacity =
        options.expert_capacity > 0 ? options.expert_capacity : std::max<std::int64_t>(busiest_expert_rows(setup.routing), 1);
  }
  plan_sizes(setup.shape, num_ranks);  // for its errors, once and before any rank exists
  for (int rank = 0; rank < num_ranks; ++rank) setup.expected.push_back(expect_rank(setup.routing, setup.shape, rank));
  setup.dispatch_row_bytes = row_bytes(setup.shape.lanes);
  setup.combine_row_bytes = setup.shape.combine ? static_cast<std::int64_t>(setup.shape.combine->row_bytes()) : 0;
  return setup;
}

}  // namespace tokenyard::cli
