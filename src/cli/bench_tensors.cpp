#include "cli/bench_tensors.hpp"

#include <algorithm>
#include <cstring>

#include "cli/bench_check.hpp"

namespace tokenyard::cli {

BenchTensors::BenchTensors(const BenchSetup& setup, int rank, const PlanSizes& sizes)
    : setup_(setup),
      rank_(rank),
      expected_(setup.expected[static_cast<std::size_t>(rank)]),
      num_tensor_rows_(num_tensor_rows(sizes)) {
  for (std::size_t lane_idx = 0; lane_idx < setup.given_lanes.size(); ++lane_idx) {
    const Lane& lane = setup.given_lanes[lane_idx];
    Bytes& rows = token_rows_.emplace_back(static_cast<std::size_t>(setup.num_tokens) * lane.row_bytes());
    for (std::int64_t token = 0; token < setup.num_tokens; ++token) {
      write_token_row(setup, rank, token, lane_idx, rows.data() + static_cast<std::size_t>(token) * lane.row_bytes());
    }
    given_.emplace_back(rows.data(), lane.dtype, std::initializer_list<std::int64_t>{setup.num_tokens, lane.num_elements});
  }
  // One row more than needed, so that there is an address for no rows too.
  const auto num_allocated = static_cast<std::size_t>(num_tensor_rows_ + 1);
  for (const Lane& lane : setup.shape.lanes) {
    if (!setup.caller_outputs) break;
    outputs_.push_back(rows_tensor(lane, output_rows_.emplace_back(num_allocated * lane.row_bytes(), kPoison).data()));
  }
  const auto row_bytes = static_cast<std::size_t>(setup.combine_row_bytes);
  expert_rows_.resize(num_allocated * row_bytes);
  if (setup.can_combine()) write_expert_rows(setup, rank, expert_rows_.data());
  combined_.resize(static_cast<std::size_t>(setup.num_tokens) * row_bytes);
}

DispatchArgs BenchTensors::dispatch_args(const Routing* cached) const {
  DispatchArgs args;
  args.lanes = given_;
  args.outputs = outputs_;
  args.routing = cached;
  if (cached == nullptr) {
    args.topk_idx = tensor(setup_.routing.ids(rank_), {setup_.num_tokens, setup_.options.top_k});
    args.topk_weights = tensor(setup_.routing.weights(rank_), {setup_.num_tokens, setup_.options.top_k});
  }
  return args;
}

CombineArgs BenchTensors::combine_args(const Routing& routing, const ConstTensorView& rows) {
  const Lane& lane = *setup_.shape.combine;
  CombineArgs args;
  args.routing = &routing;
  args.rows = rows;
  args.use_routing_weights = setup_.shape.layout != Layout::kCompact;
  args.output = TensorView(combined_.data(), lane.dtype, {setup_.num_tokens, lane.num_elements});
  return args;
}

TensorView BenchTensors::expert_rows() { return rows_tensor(*setup_.shape.combine, expert_rows_.data()); }

void BenchTensors::poison(const Received& received) const {
  for (std::size_t lane_idx = 0; lane_idx < setup_.shape.lanes.size(); ++lane_idx) {
    const TensorView rows = received.lane(static_cast<int>(lane_idx));
    if (rows.num_elements() > 0)
      std::memset(rows.data, std::to_integer<int>(kPoison), rows.num_elements() * size_of(rows.dtype));
  }
}

void BenchTensors::poison_combined() { std::fill(combined_.begin(), combined_.end(), kPoison); }

std::int64_t BenchTensors::num_tensor_rows(const PlanSizes& sizes) const {
  if (setup_.shape.overflow == Overflow::kGrow || setup_.shape.layout == Layout::kExpertPadded)
    return expected_.num_expanded_rows;
  if (setup_.shape.layout == Layout::kCompact) return sizes.recv_capacity;
  return sizes.recv_capacity * setup_.shape.top_k +
         std::int64_t{expected_.num_local_experts} * (setup_.shape.expert_alignment - 1);
}

TensorView BenchTensors::rows_tensor(const Lane& lane, std::byte* rows) const {
  if (setup_.shape.layout == Layout::kExpertPadded) {
    return {rows, lane.dtype, {expected_.num_local_experts, setup_.shape.expert_capacity, lane.num_elements}};
  }
  return {rows, lane.dtype, {num_tensor_rows_, lane.num_elements}};
}

}  // namespace tokenyard::cli
