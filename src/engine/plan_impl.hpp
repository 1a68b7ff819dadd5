// A plan at work: its windows, its slots and their turns.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/trace.hpp"
#include "engine/routing_data.hpp"
#include "engine/signals.hpp"
#include "engine/watcher.hpp"
#include "layout/plan_layout.hpp"
#include "memory/memory_region.hpp"
#include "tokenyard/plan.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

// A dispatch between its halves.
struct DispatchCall {
  Turn turn;
  CallHeader header;
  std::chrono::milliseconds timeout;
  std::shared_ptr<Routing::Data> made;  // null in a cached dispatch
  std::shared_ptr<const Routing::Data> routing;
  bool in_slot;  // the result stays with the plan until it is released
  std::function<void(const RecvSizes&, std::span<TensorView>)> allocate;
  std::vector<TensorView> outputs;
  // What the caller's callback or outputs did wrong. The others count on this rank, so it must wait until the turn is over.
  std::exception_ptr output_error;
};

// A combine between its halves.
struct CombineCall {
  Turn turn;
  CallHeader header;
  std::chrono::milliseconds timeout;
  std::shared_ptr<const Routing::Data> routing;
  CombineArgs args;  // its routing pointer is not used: it may dangle
};

// Shared by the Plan handles and by live results, so the windows outlast both.
class Plan::Impl : public std::enable_shared_from_this<Plan::Impl> {
 public:
  // Collective within the domain, which must be the whole group. All ranks' shapes are known to be equal. `group` names the
  // group within its processes, `plan_idx` the plan within the group.
  Impl(std::shared_ptr<Peers> peers, Shape shape, std::uint64_t group, std::uint32_t plan_idx);

  const Shape& shape() const noexcept { return shape_; }
  const PlanSizes& sizes() const noexcept { return sizes_; }
  int num_local_experts() const noexcept { return placement_.num_local_experts(peers_->rank()); }

  // The halves of a call: begin sends, complete waits and delivers.
  DispatchCall begin(const DispatchArgs& args);
  Received complete(DispatchCall* call);
  CombineCall begin(const CombineArgs& args);
  void complete(CombineCall* call);

  // Whether complete() would not wait; from any thread. True also once the group has failed, which complete() then reports.
  bool is_done(const Turn& turn) const;
  // Waits for is_done(), but for no longer than `timeout`.
  bool wait_done(const Turn& turn, std::chrono::milliseconds timeout) const;
  // Also once `timeout` has passed, so that a callback comes in any case.
  void call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback);

  // Received::combine_buffer of the live result of dispatch turn `turn`.
  TensorView combine_buffer(const Turn& turn, const RecvSizes& sizes);

  void mask_rank(int rank);
  std::vector<int> masked_ranks() const;
  std::vector<PeerCounters> counters() const;

  void place(const PlacementTable& table);

  // The result of dispatch turn `turn`: whether it lives, and the end of its life (ignored if it has ended already).
  bool is_live(const Turn& turn) const noexcept;
  void release(const Turn& turn) noexcept;

  // For Group::recover, between two barriers of all ranks.
  void reset();

 private:
  // A dispatch slot: every rank's window, and this rank's memory for an expert layout.
  struct Slot {
    std::int64_t capacity = 0;      // rows; equal on all ranks
    std::uint32_t num_growths = 0;  // in this generation
    bool in_doubt = false;          // a failure may have come between some ranks' growth and others': to be opened anew by all
    DispatchLayout layout{};
    std::vector<std::shared_ptr<MemoryRegion>> windows;  // by rank
    std::shared_ptr<MemoryRegion> expanded;
    std::array<std::size_t, kMaxLanes> expanded_lanes{};  // offsets
    std::shared_ptr<MemoryRegion> borrowed;               // for experts' outputs, where they may not overwrite the rows
    std::optional<Turn> live;                             // the turn whose result is live
    int num_readings = 0;                                 // combines under way whose rows their tokens' homes read in this slot
    bool owes_free = false;                               // released meanwhile: the last of them frees the slot
    std::uint64_t live_routing_id = 0;
  };

  enum class WindowKind : std::uint8_t { kControl = 1, kDispatch, kCombine };
  std::uint64_t window_tag(WindowKind kind, int slot, std::uint32_t num_growths) const;
  void open_slot(int slot_idx, std::int64_t capacity, std::chrono::milliseconds timeout);
  // Grows the slot if a rank is to receive more rows than fit. All ranks come to the same decision.
  void ensure_capacity(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout);
  // Memory for an expert layout of `num_rows` rows in all lanes; this rank's affair alone.
  void ensure_expanded(Slot* slot, std::int64_t num_rows);
  static int choose_slot(int wanted, int next);
  std::chrono::milliseconds timeout_of(const std::optional<std::chrono::milliseconds>& given) const;

  // Posts the `free` that a released slot owes, unless a combine still has its rows read there.
  void free_if_unread(int slot_idx) noexcept;

  // Steps of a dispatch. `Routing::Data*` is filled step by step.
  void check_dispatch(const DispatchArgs& args, int slot_idx) const;
  std::shared_ptr<Routing::Data> count_tokens(const DispatchArgs& args);
  std::vector<ConstTensorView> quantize_lanes(const DispatchArgs& args);
  void push_rows(const DispatchArgs& args, const Slot& slot, const Routing::Data& routing);
  // Rows and bytes per peer, for the timeline.
  void trace_pushed(const Routing::Data& routing, CallTrace* trace);
  void trace_folded(const CombineArgs& args, const Routing::Data& routing, CallTrace* trace) const;
  // From the announced counts per expert and the number of rows.
  void set_extents(Routing::Data* routing, std::int64_t capacity) const;
  RecvSizes sizes_of(const Routing::Data& routing) const;
  void find_outputs(DispatchCall* call);
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
  void check_combines() const;
  void check_combine(const CombineArgs& args, const Routing::Data& routing) const;
  bool own_stay_in_place(const CombineArgs& args) const;
  // The slot whose received rows args.rows overwrote and can be read there by their homes, or -1.
  int find_in_place_slot(const CombineArgs& args, const Routing::Data& routing) const;
  void give_weights(const CombineArgs& args, const Turn& turn, const Routing::Data& routing, int peer);
  void take_weights(const Turn& turn, const Routing::Data& routing);
  void await_data(const Turn& turn, Phase phase, const CallHeader& header, std::chrono::milliseconds timeout);
  std::vector<std::byte*> active_windows(const std::vector<std::shared_ptr<MemoryRegion>>& windows) const;

  const Routing::Data& usable_routing(const Routing* routing) const;
  RoutingKey routing_key() const;
  std::int64_t max_expanded_rows(int num_local_experts) const;

  std::shared_ptr<Peers> peers_;
  Shape shape_;
  PlanSizes sizes_;
  std::uint64_t group_;
  std::uint32_t plan_idx_;
  Placement placement_;
  std::uint64_t placement_fingerprint_;
  PlanDimensions dimensions_;
  Lane combine_lane_;
  ControlLayout control_layout_;
  CombineLayout combine_layout_;
  std::vector<std::shared_ptr<MemoryRegion>> control_;  // by rank
  std::array<Slot, kNumSlots> slots_;
  std::array<std::vector<std::shared_ptr<MemoryRegion>>, kNumSlots> combine_windows_;  // by slot, then rank
  std::array<bool, kNumSlots> combine_pending_{};  // begun and not completed: no rank posts the slot's next `free` meanwhile
  std::optional<Signals> signals_;
  std::shared_ptr<RoutingPool> routings_ = std::make_shared<RoutingPool>();
  std::uint64_t num_routings_ = 0;  // made in this generation
  int next_dispatch_slot_ = 0;
  int next_combine_slot_ = 0;
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

class Received::Impl {
 public:
  Impl(std::shared_ptr<Plan::Impl> plan, const Turn& turn, bool in_slot, RecvSizes sizes, Routing routing,
       std::vector<TensorView> lanes)
      : plan_(std::move(plan)),
        turn_(turn),
        in_slot_(in_slot),
        live_(in_slot),
        sizes_(sizes),
        routing_(std::move(routing)),
        lanes_(std::move(lanes)) {}
  ~Impl() { release(); }

  bool live() const noexcept { return live_ && plan_->is_live(turn_); }

  // Throws Error(kStale) if the rows were in the slot, where others may stand by now.
  void check_rows() const;

  void release() noexcept {
    if (live_) plan_->release(turn_);
    live_ = false;
  }

  std::shared_ptr<Plan::Impl> plan_;
  Turn turn_;
  bool in_slot_;  // rather than in the caller's tensors
  bool live_;
  RecvSizes sizes_;
  Routing routing_;
  std::vector<TensorView> lanes_;
};

}  // namespace tokenyard
