// What a Routing holds, and the pool that recycles it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/device_routing.hpp"
#include "layout/placement.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/routing.hpp"

namespace tokenyard {

// Plans whose keys are equal route alike: the Routing of one may be used with the other (FP8 forward, BF16 backward).
struct RoutingKey {
  std::uint64_t group = 0;
  int rank = 0;
  int num_experts = 0;
  int top_k = 0;
  std::int64_t max_tokens = 0;
  Mode mode = Mode::kThroughput;
  Layout layout = Layout::kCompact;
  int expert_alignment = 0;
  std::int64_t expert_capacity = 0;
  Overflow overflow = Overflow::kGrow;
  std::int64_t fixed_recv_capacity = 0;  // 0 under kGrow

  friend bool operator==(const RoutingKey&, const RoutingKey&) = default;
};

struct Routing::Data {
  RoutingKey key;
  std::uint64_t id = 0;  // equal on all ranks, different for every dispatch of the group
  std::uint16_t generation = 0;
  std::uint64_t placement = 0;  // fingerprint
  int num_ranks = 0;
  int max_fan_out = 0;
  int num_local_experts = 0;
  bool has_weights = false;
  std::int64_t max_recv_rows = 0;  // of any rank

  // As a source: see kernels/host/count.hpp; `row` as `place` leaves it.
  std::int64_t num_tokens = 0;
  std::vector<std::int32_t> fan_out, destination, ordinal, local_idx;
  std::vector<std::int64_t> row;

  // As a receiver. num_view_rows and num_expanded_view_rows are the extents of the public views.
  std::int64_t num_recv_rows = 0;
  std::int64_t num_expanded_rows = 0;
  std::int64_t num_view_rows = 0;
  std::int64_t num_expanded_view_rows = 0;
  std::vector<std::int64_t> source_offsets;
  std::vector<std::int32_t> source_token, recv_ordinal, topk_idx, gather_idx;
  std::vector<float> topk_weights, expanded_weights;
  std::vector<std::int64_t> expert_counts, expert_offsets, expert_dropped, expert_source_offsets, expanded_row;
  std::vector<std::int32_t> expanded_source_token;
  std::vector<std::int64_t> received_row;  // latency mode: [N], the place of each row

  // Of ranks on GPUs, instead of all vectors above. Numbers of rows are -1 where the host does not know them.
  std::optional<DeviceRouting> device;
  std::vector<SentBlock> sent;      // by destination; empty under kDrop, where the host does not know
  std::vector<SentBlock> received;  // by source, as that rank says it; empty where copy engines carry no combines
};

// Keeps the memory of dropped Routings for the next ones, so that a plan in steady use allocates no memory that grows with the
// tokens. Thread-safe: a Routing may be dropped anywhere, also after its plan.
class RoutingPool : public std::enable_shared_from_this<RoutingPool> {
 public:
  std::shared_ptr<Routing::Data> take();

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Routing::Data>> unused_;
};

}  // namespace tokenyard
