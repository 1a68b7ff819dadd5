#include "engine/plan_impl.hpp"

#include <algorithm>
#include <utility>

#include "base/deadline.hpp"
#include "base/fail.hpp"
#include "engine/check_args.hpp"
#include "engine/overlap.hpp"

namespace tokenyard {
namespace {

// Where a lane's rows end and the next lane's begin in an expert layout's memory.
std::size_t expanded_lane_bytes(const Lane& lane, std::int64_t num_rows) {
  constexpr std::size_t kAlignment = 256;
  return (static_cast<std::size_t>(num_rows) * lane.row_bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Plan::Impl::Impl(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place, MemoryPlace memory)
    : peers_(std::move(peers)),
      shape_(std::move(shape)),
      sizes_(plan_sizes(shape_, peers_->num_ranks())),
      place_(place),
      memory_(std::move(memory)),
      placement_(shape_.placement, shape_.num_experts, peers_->num_ranks()),
      placement_fingerprint_(placement_.fingerprint()),
      dimensions_(plan_dimensions(shape_, peers_->num_ranks(), placement_)),
      combine_lane_(combine_lane(shape_)),
      control_layout_(control_layout(shape_, dimensions_)),
      combine_layout_(combine_layout(shape_, dimensions_)) {}

void Plan::Impl::open_windows() {
  const Deadline deadline(peers_->timeout());
  control_ = peers_->share(window_tag(WindowKind::kControl, 0, 0), control_layout_.num_bytes, deadline, memory_);
  for (int slot = 0; slot < kNumSlots; ++slot) {
    open_slot(slot, dimensions_.first_recv_capacity, peers_->timeout());
    combine_windows_[slot] =
        peers_->share(window_tag(WindowKind::kCombine, slot, 0), combine_layout_.num_bytes, deadline, memory_);
  }
}

// From the top: a zero bit (windows of users have a one there), plan, generation, kind, slot, growths.
std::uint64_t Plan::Impl::window_tag(WindowKind kind, int slot, std::uint32_t num_growths) const {
  return (static_cast<std::uint64_t>(place_.plan_idx + 1) << 40) | (static_cast<std::uint64_t>(peers_->generation()) << 24) |
         (static_cast<std::uint64_t>(kind) << 20) | (static_cast<std::uint64_t>(slot) << 16) | (num_growths & 0xffff);
}

void Plan::Impl::open_slot(int slot_idx, std::int64_t capacity, std::chrono::milliseconds timeout) {
  Slot& slot = slots_[slot_idx];
  const DispatchLayout layout = dispatch_layout(shape_, dimensions_, capacity);
  auto windows = peers_->share(window_tag(WindowKind::kDispatch, slot_idx, slot.num_growths++), layout.num_bytes,
                               Deadline(timeout), memory_);
  slot.windows.swap(windows);  // the old ones go when the new ones are there: an attempt that fails takes nothing away
  for (std::shared_ptr<MemoryRegion>& window : windows) retire(std::move(window));
  slot.layout = layout;
  slot.capacity = capacity;
  slot.in_doubt = false;
  slot_opened(slot_idx);
}

bool Plan::Impl::must_be_opened(const Slot& slot, std::int64_t num_rows) const {
  const std::int64_t capacity = slot.in_doubt ? dimensions_.first_recv_capacity : slot.capacity;
  return slot.in_doubt || (num_rows > capacity && shape_.overflow == Overflow::kGrow);
}

void Plan::Impl::ensure_capacity(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout) {
  Slot& slot = slots_[slot_idx];
  if (!must_be_opened(slot, num_rows)) return;
  const std::int64_t capacity = slot.in_doubt ? dimensions_.first_recv_capacity : slot.capacity;
  // A quarter more than asked, so that slowly rising counts do not grow the slot at every call.
  const bool fits = num_rows <= capacity || shape_.overflow == Overflow::kDrop;
  open_slot(slot_idx, fits ? capacity : std::min(dimensions_.worst_recv_rows, num_rows + num_rows / 4), timeout);
}

void Plan::Impl::ensure_expanded(Slot* slot, std::int64_t num_rows) {
  std::size_t num_bytes = 0;
  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    slot->expanded_lanes[lane_idx] = num_bytes;
    num_bytes += expanded_lane_bytes(shape_.lanes[lane_idx], num_rows);
  }
  if (slot->expanded != nullptr && num_bytes <= slot->expanded->num_bytes()) return;
  retire(std::move(slot->expanded));
  slot->expanded.reset();
  const bool may_grow = shape_.overflow == Overflow::kGrow && shape_.layout != Layout::kExpertPadded;
  slot->expanded = own_memory(may_grow ? num_bytes + num_bytes / 4 : num_bytes);
}

TensorView Plan::Impl::combine_buffer(const Turn& turn, const RecvSizes& sizes) {
  check_combines();
  Slot& slot = slots_[turn.slot];
  std::byte* data = nullptr;
  if (shape_.mode == Mode::kThroughput && shape_.layout == Layout::kCompact) {
    data = slot.windows[peers_->rank()]->data() + slot.layout.lanes[0];
  } else {
    const std::size_t num_bytes = expanded_lane_bytes(combine_lane_, sizes.num_tensor_rows);
    if (slot.borrowed == nullptr || slot.borrowed->num_bytes() < num_bytes) {
      retire(std::move(slot.borrowed));
      slot.borrowed = own_memory(num_bytes + (shape_.overflow == Overflow::kGrow ? num_bytes / 4 : 0));
    }
    data = slot.borrowed->data();
  }
  return tensor_of_rows(shape_, combine_lane_, sizes.num_local_experts, sizes.num_tensor_rows, data);
}

std::shared_ptr<MemoryRegion> Plan::Impl::own_memory(std::size_t num_bytes) const { return MemoryRegion::anonymous(num_bytes); }

std::chrono::milliseconds Plan::Impl::timeout_of(const std::optional<std::chrono::milliseconds>& given) const {
  return Deadline(given.value_or(peers_->timeout())).timeout();
}

RoutingKey Plan::Impl::routing_key() const {
  RoutingKey key;
  key.group = place_.group;
  key.rank = peers_->rank();
  key.num_experts = shape_.num_experts;
  key.top_k = shape_.top_k;
  key.max_tokens = shape_.max_tokens;
  key.mode = shape_.mode;
  key.layout = shape_.layout;
  key.expert_alignment = shape_.expert_alignment;
  key.expert_capacity = shape_.expert_capacity;
  key.overflow = shape_.overflow;
  key.fixed_recv_capacity = shape_.overflow == Overflow::kDrop ? dimensions_.first_recv_capacity : 0;
  return key;
}

const Routing::Data& Plan::Impl::usable_routing(const Routing* routing) const {
  if (routing == nullptr || !*routing) {
    fail(ErrorCode::kStale, "the Routing is empty: take it from the result of a dispatch");
  }
  const Routing::Data& data = *routing->data();
  if (!(data.key == routing_key())) {
    fail(ErrorCode::kStale,
         "the Routing comes from a plan that routes differently (another group, rank, number of experts, top-k, max_tokens, "
         "mode, layout or capacity): use it with the plan that made it, or with one that differs in its lanes only");
  }
  if (data.generation != peers_->generation()) {
    fail(ErrorCode::kStale, "the Routing was made before the group recovered from a failure: dispatch again");
  }
  return data;
}

void Plan::Impl::place(const PlacementTable& table) {
  Placement placement(table, shape_.num_experts, peers_->num_ranks());
  if (placement.max_local_experts() > dimensions_.max_local_experts) {
    fail_argument("the placement puts {} experts on one rank and the plan was made for {}: set Shape::max_local_experts",
                  placement.max_local_experts(), dimensions_.max_local_experts);
  }
  placement_ = std::move(placement);
  placement_fingerprint_ = placement_.fingerprint();
}

bool Plan::Impl::is_live(const Turn& turn) const noexcept {
  const Slot& slot = slots_[turn.slot];
  return slot.live.has_value() && slot.live->word() == turn.word();
}

std::int64_t Plan::Impl::max_expanded_rows(int num_local_experts) const {
  // Every expert's group may need a gap of up to alignment - 1 rows.
  return dimensions_.first_recv_capacity * shape_.top_k +
         static_cast<std::int64_t>(num_local_experts) * (shape_.expert_alignment - 1);
}

RecvSizes Plan::Impl::sizes_of(const Routing::Data& routing) const {
  RecvSizes sizes;
  sizes.num_recv_rows = routing.num_recv_rows;
  sizes.num_expanded_rows = routing.num_expanded_rows;
  sizes.num_tensor_rows = shape_.layout == Layout::kCompact ? routing.num_view_rows : routing.num_expanded_view_rows;
  sizes.num_local_experts = routing.num_local_experts;
  return sizes;
}

void Plan::Impl::find_outputs(DispatchCall* call) {
  Slot& slot = slots_[call->turn.slot];
  const RecvSizes sizes = sizes_of(*call->routing);
  std::byte* window = slot.windows[peers_->rank()]->data();
  const bool in_window = shape_.mode == Mode::kThroughput && shape_.layout == Layout::kCompact;
  try {
    if (call->in_slot && !in_window) ensure_expanded(&slot, sizes.num_tensor_rows);
    if (call->allocate != nullptr) {
      call->outputs.resize(shape_.lanes.size());
      call->allocate(sizes, call->outputs);
    }
    for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
      const Lane& lane = shape_.lanes[lane_idx];
      if (call->in_slot) {
        std::byte* data =
            in_window ? window + slot.layout.lanes[lane_idx] : slot.expanded->data() + slot.expanded_lanes[lane_idx];
        call->outputs.push_back(tensor_of_rows(shape_, lane, sizes.num_local_experts, sizes.num_tensor_rows, data));
      } else {
        check_output(lane_idx, call->outputs[lane_idx], shape_, sizes.num_local_experts, sizes.num_tensor_rows);
      }
    }
  } catch (...) {
    call->output_error = std::current_exception();
  }
}

int Plan::Impl::find_in_place_slot(const CombineArgs& args, const Routing::Data& routing) const {
  const auto* rows = static_cast<const std::byte*>(args.rows.data);
  const auto lie_in = [rows](const std::shared_ptr<MemoryRegion>& region) {
    return region != nullptr && rows >= region->data() && rows < region->data() + region->num_bytes();
  };
  for (int slot_idx = 0; slot_idx < kNumSlots; ++slot_idx) {
    const Slot& slot = slots_[slot_idx];
    const std::shared_ptr<MemoryRegion>& window = slot.windows[peers_->rank()];
    if (!lie_in(window) && !lie_in(slot.expanded) && !lie_in(slot.borrowed)) continue;
    if (!slot.live.has_value() || slot.live_routing_id != routing.id) {
      fail(ErrorCode::kStale, "rows lie in slot {}, whose result is no longer live or belongs to another Routing", slot_idx);
    }
    const bool as_contributions = own_stay_in_place(args) && rows == window->data() + slot.layout.lanes[0];
    return as_contributions ? slot_idx : -1;
  }
  return -1;
}

// Contributions to own tokens stay where they are if they need no arithmetic, and no sum is written over them.
bool Plan::Impl::own_stay_in_place(const CombineArgs& args) const {
  return shape_.mode == Mode::kThroughput && shape_.layout == Layout::kCompact && !args.factors && !shape_.combine_as_float8 &&
         !overlap(args.output, args.rows) && !overlap(args.returned_weights, args.rows);
}

void Plan::Impl::reset() {
  for (Slot& slot : slots_) {
    slot.live.reset();
    slot.num_readings = 0;
    slot.owes_free = false;
    slot.num_growths = 0;
    slot.in_doubt = shape_.overflow == Overflow::kGrow;
  }
  combine_pending_.fill(false);
  num_routings_ = 0;
  next_dispatch_slot_ = 0;
  next_combine_slot_ = 0;
}

Received Plan::Impl::dispatch(const DispatchArgs& args) {
  DispatchCall call = begin(args);
  return complete(&call);
}

void Plan::Impl::combine(const CombineArgs& args) {
  CombineCall call = begin(args);
  complete(&call);
}

}  // namespace tokenyard
