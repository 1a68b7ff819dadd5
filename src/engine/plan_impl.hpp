// A plan at work: its windows, its slots and what can be said about a call before it is made. How calls are made is the affair
// of engine/host and engine/cuda.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/calls.hpp"
#include "engine/routing_data.hpp"
#include "layout/plan_layout.hpp"
#include "memory/memory_region.hpp"
#include "tokenyard/plan.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

// Where a plan stands in its process and among the ranks.
struct PlanPlace {
  std::uint64_t group;     // names the group within its processes
  std::uint32_t plan_idx;  // within the group
};

// Shared by the Plan handles and by live results, so the windows outlast both.
class Plan::Impl : public std::enable_shared_from_this<Plan::Impl> {
 public:
  virtual ~Impl() = default;

  const Shape& shape() const noexcept { return shape_; }
  const PlanSizes& sizes() const noexcept { return sizes_; }
  int num_local_experts() const noexcept { return placement_.num_local_experts(peers_->rank()); }

  virtual Received dispatch(const DispatchArgs& args);
  virtual void combine(const CombineArgs& args);

  // The halves of a call: begin sends, complete waits and delivers.
  virtual DispatchCall begin(const DispatchArgs& args) = 0;
  virtual Received complete(DispatchCall* call) = 0;
  virtual CombineCall begin(const CombineArgs& args) = 0;
  virtual void complete(CombineCall* call) = 0;

  // Whether complete() would not wait; from any thread. True also once the group has failed, which complete() then reports.
  virtual bool is_done(const Turn& turn) const = 0;
  // Waits for is_done(), but for no longer than `timeout`.
  virtual bool wait_done(const Turn& turn, std::chrono::milliseconds timeout) const = 0;
  // Also once `timeout` has passed, so that a callback comes in any case.
  virtual void call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback) = 0;

  // Received::combine_buffer of the live result of dispatch turn `turn`.
  TensorView combine_buffer(const Turn& turn, const RecvSizes& sizes);

  virtual void mask_rank(int rank) = 0;
  virtual std::vector<int> masked_ranks() const = 0;
  virtual std::vector<PeerCounters> counters() const = 0;

  virtual void place(const PlacementTable& table);

  // The result of dispatch turn `turn`: whether it lives, and the end of its life (ignored if it has ended already).
  bool is_live(const Turn& turn) const noexcept;
  virtual void release(const Turn& turn) noexcept = 0;

  // For Group::recover: waits until nothing of this rank's calls is under way. Then, between two barriers of all ranks,
  // reset().
  virtual void quiesce() {}
  virtual void reset();

 protected:
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

  // Collective within the domain, which must be the whole group. All ranks' shapes are known to be equal. Windows and whatever
  // else the plan keeps rows in lie at `memory`.
  Impl(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place, MemoryPlace memory);

  enum class WindowKind : std::uint8_t { kControl = 1, kDispatch, kCombine, kMapped, kCarried };
  std::uint64_t window_tag(WindowKind kind, int slot, std::uint32_t num_growths) const;
  // All of them, at the end of construction: slot_opened is called.
  void open_windows();
  // Tells the derived plan that a slot has other windows from now on.
  virtual void slot_opened(int slot_idx) = 0;
  // Lets go of memory that has been replaced.
  virtual void retire(std::shared_ptr<MemoryRegion> /*region*/) {}
  void open_slot(int slot_idx, std::int64_t capacity, std::chrono::milliseconds timeout);
  // Grows the slot if a rank is to receive more rows than fit. All ranks come to the same decision.
  void ensure_capacity(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout);
  bool must_be_opened(const Slot& slot, std::int64_t num_rows) const;
  // Memory for an expert layout of `num_rows` rows in all lanes; this rank's affair alone.
  void ensure_expanded(Slot* slot, std::int64_t num_rows);
  // Of this rank alone, at the plan's place.
  virtual std::shared_ptr<MemoryRegion> own_memory(std::size_t num_bytes) const;
  static int choose_slot(int wanted, int next);
  std::chrono::milliseconds timeout_of(const std::optional<std::chrono::milliseconds>& given) const;

  // check_args.cpp
  void check_dispatch(const DispatchArgs& args, int slot_idx) const;
  void check_combines() const;
  void check_combine(const CombineArgs& args, const Routing::Data& routing) const;
  const Routing::Data& usable_routing(const Routing* routing) const;
  RoutingKey routing_key() const;

  RecvSizes sizes_of(const Routing::Data& routing) const;
  void find_outputs(DispatchCall* call);
  std::int64_t max_expanded_rows(int num_local_experts) const;
  bool own_stay_in_place(const CombineArgs& args) const;
  // The slot whose received rows args.rows overwrote and can be read there by their homes, or -1.
  int find_in_place_slot(const CombineArgs& args, const Routing::Data& routing) const;

  std::shared_ptr<Peers> peers_;
  Shape shape_;
  PlanSizes sizes_;
  PlanPlace place_;
  MemoryPlace memory_;
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
  std::uint64_t num_routings_ = 0;                 // made in this generation
  int next_dispatch_slot_ = 0;
  int next_combine_slot_ = 0;
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
