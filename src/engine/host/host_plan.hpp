// A plan whose ranks are threads or processes that compute on the host.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/trace.hpp"
#include "engine/host/signals.hpp"
#include "engine/host/watcher.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {

class HostPlan final : public Plan::Impl {
 public:
  HostPlan(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place);

  DispatchCall begin(const DispatchArgs& args) override;
  Received complete(DispatchCall* call) override;
  CombineCall begin(const CombineArgs& args) override;
  void complete(CombineCall* call) override;

  bool is_done(const Turn& turn) const override;
  bool wait_done(const Turn& turn, std::chrono::milliseconds timeout) const override;
  void call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback) override;

  void mask_rank(int rank) override;
  std::vector<int> masked_ranks() const override;
  std::vector<PeerCounters> counters() const override;

  void release(const Turn& turn) noexcept override;
  void reset() override;

 private:
  void slot_opened(int) override {}

  // Posts the `free` that a released slot owes, unless a combine still has its rows read there.
  void free_if_unread(int slot_idx) noexcept;

  // Throws Error(kUnsupported) for what only GPUs can be asked for.
  static void check_execution(const Execution& execution);

  // Steps of a dispatch. `Routing::Data*` is filled step by step.
  std::shared_ptr<Routing::Data> count_tokens(const DispatchArgs& args);
  // From the announced counts per expert and the number of rows.
  void set_extents(Routing::Data* routing, std::int64_t capacity) const;
  std::vector<ConstTensorView> quantize_lanes(const DispatchArgs& args);
  void push_rows(const DispatchArgs& args, const Slot& slot, const Routing::Data& routing);
  // Rows and bytes per peer, for the timeline.
  void trace_pushed(const Routing::Data& routing, CallTrace* trace);
  void trace_folded(const CombineArgs& args, const Routing::Data& routing, CallTrace* trace) const;
  void index_rows(Routing::Data* routing) const;
  void check_announced(bool holds) const;
  void deliver(const Slot& slot, const Routing::Data& routing, const std::vector<TensorView>& outputs) const;

  // throughput.cpp: counts come first.
  void exchange_counts(const Turn& turn, const CallHeader& header, Routing::Data* routing, const Deadline& deadline,
                       CallTrace* trace);
  void read_rows(const Slot& slot, Routing::Data* routing) const;

  // latency.cpp: no counts, but a place for every token.
  void assign_places(Routing::Data* routing) const;
  void post_arrivals(const Slot& slot, const Routing::Data& routing);
  void read_arrivals(const Slot& slot, Routing::Data* routing) const;

  // Steps of a combine.
  void give_weights(const CombineArgs& args, const Turn& turn, const Routing::Data& routing, int peer);
  void take_weights(const Turn& turn, const Routing::Data& routing);
  void await_data(const Turn& turn, Phase phase, const CallHeader& header, std::chrono::milliseconds timeout);
  std::vector<std::byte*> active_windows(const std::vector<std::shared_ptr<MemoryRegion>>& windows) const;

  std::optional<Signals> signals_;
  std::shared_ptr<RoutingPool> routings_ = std::make_shared<RoutingPool>();
  // Scratch of a call's first half.
  std::vector<std::int32_t> rank_counts_, expert_counts_;
  std::vector<std::uint64_t> arrivals_;  // [num_ranks, arrival_words]
  std::shared_ptr<MemoryRegion> quantized_;
  std::vector<float> given_factors_;       // one per row of the expert layout
  std::vector<std::int64_t> traced_rows_;  // by peer
  struct AtomicCounters {
    std::atomic<std::uint64_t> num_calls{0}, num_rows{0}, wait_nanoseconds{0};
  };
  mutable std::vector<AtomicCounters> counters_;  // by rank
  std::unique_ptr<Watcher> watcher_;              // made for the first callback
};

}  // namespace tokenyard
