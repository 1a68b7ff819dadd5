#include "tokenyard/plan.hpp"

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {
namespace {

// Where a lane's rows end and the next lane's begin in an expert layout's memory.
std::size_t expanded_lane_bytes(const Lane& lane, std::int64_t num_rows) {
  constexpr std::size_t kAlignment = 256;
  return (static_cast<std::size_t>(num_rows) * lane.row_bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::vector<std::byte*> addresses(const std::vector<std::shared_ptr<MemoryRegion>>& regions) {
  std::vector<std::byte*> bases;
  for (const auto& region : regions) bases.push_back(region->data());
  return bases;
}

std::vector<int> rotated(const std::vector<int>& members, int rank) {
  std::vector<int> order = members;
  std::rotate(order.begin(), std::upper_bound(order.begin(), order.end(), rank), order.end());
  return order;
}

Plan::Impl::Impl(std::shared_ptr<Peers> peers, Shape shape, std::uint64_t group, std::uint32_t plan_idx)
    : peers_(std::move(peers)),
      shape_(std::move(shape)),
      sizes_(plan_sizes(shape_, peers_->num_ranks())),
      group_(group),
      plan_idx_(plan_idx),
      placement_(shape_.placement, shape_.num_experts, peers_->num_ranks()),
      placement_fingerprint_(placement_.fingerprint()),
      dimensions_(plan_dimensions(shape_, peers_->num_ranks(), placement_)),
      combine_lane_(combine_lane(shape_)),
      control_layout_(control_layout(dimensions_)),
      combine_layout_(combine_layout(shape_, dimensions_)) {
  const Deadline deadline(peers_->timeout());
  control_ = peers_->share(window_tag(WindowKind::kControl, 0, 0), control_layout_.num_bytes, deadline);
  for (int slot = 0; slot < kNumSlots; ++slot) {
    open_slot(slot, dimensions_.first_recv_capacity, peers_->timeout());
    combine_windows_[slot] = peers_->share(window_tag(WindowKind::kCombine, slot, 0), combine_layout_.num_bytes, deadline);
  }
  signals_.emplace(peers_.get(), plan_idx_, control_layout_, control_);
}

// From the top: a zero bit (windows of users have a one there), plan, generation, kind, slot, growths.
std::uint64_t Plan::Impl::window_tag(WindowKind kind, int slot, std::uint32_t num_growths) const {
  return (static_cast<std::uint64_t>(plan_idx_ + 1) << 40) | (static_cast<std::uint64_t>(peers_->generation()) << 24) |
         (static_cast<std::uint64_t>(kind) << 20) | (static_cast<std::uint64_t>(slot) << 16) | (num_growths & 0xffff);
}

void Plan::Impl::open_slot(int slot_idx, std::int64_t capacity, std::chrono::milliseconds timeout) {
  Slot& slot = slots_[slot_idx];
  const DispatchLayout layout = dispatch_layout(shape_, dimensions_, capacity);
  slot.windows =
      peers_->share(window_tag(WindowKind::kDispatch, slot_idx, slot.num_growths++), layout.num_bytes, Deadline(timeout));
  slot.layout = layout;
  slot.capacity = capacity;
  slot.in_doubt = false;
}

void Plan::Impl::ensure_capacity(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout) {
  Slot& slot = slots_[slot_idx];
  const std::int64_t capacity = slot.in_doubt ? dimensions_.first_recv_capacity : slot.capacity;
  const bool fits = num_rows <= capacity || shape_.overflow == Overflow::kDrop;
  if (fits && !slot.in_doubt) return;
  // A quarter more than asked, so that slowly rising counts do not grow the slot at every call.
  open_slot(slot_idx, fits ? capacity : std::min(dimensions_.worst_recv_rows, num_rows + num_rows / 4), timeout);
}

void Plan::Impl::ensure_expanded(Slot* slot, std::int64_t num_rows) {
  std::size_t num_bytes = 0;
  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    slot->expanded_lanes[lane_idx] = num_bytes;
    num_bytes += expanded_lane_bytes(shape_.lanes[lane_idx], num_rows);
  }
  if (slot->expanded != nullptr && num_bytes <= slot->expanded->num_bytes()) return;
  slot->expanded.reset();
  const bool may_grow = shape_.overflow == Overflow::kGrow && shape_.layout == Layout::kExpertContiguous;
  slot->expanded = MemoryRegion::anonymous(may_grow ? num_bytes + num_bytes / 4 : num_bytes);
}

std::chrono::milliseconds Plan::Impl::timeout_of(const std::optional<std::chrono::milliseconds>& given) const {
  return given.value_or(peers_->timeout());
}

RoutingKey Plan::Impl::routing_key() const {
  RoutingKey key;
  key.group = group_;
  key.rank = peers_->rank();
  key.num_experts = shape_.num_experts;
  key.top_k = shape_.top_k;
  key.max_tokens = shape_.max_tokens;
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
         "layout "
         "or capacity): use it with the plan that made it, or with one that differs in its lanes only");
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

void Plan::Impl::release(const Turn& turn) noexcept {
  if (!is_live(turn)) return;
  slots_[turn.slot].live.reset();
  delay_point();
  signals_->post_free(signals_->next(Track::kDispatch, turn.slot));
}

void Plan::Impl::reset() {
  for (Slot& slot : slots_) {
    slot.live.reset();
    slot.num_growths = 0;
    slot.in_doubt = shape_.overflow == Overflow::kGrow;
  }
  num_routings_ = 0;
  next_dispatch_slot_ = 0;
  next_combine_slot_ = 0;
  signals_->reset();
}

const Shape& Plan::shape() const noexcept { return impl_->shape(); }
const PlanSizes& Plan::sizes() const noexcept { return impl_->sizes(); }
int Plan::num_local_experts() const noexcept { return impl_->num_local_experts(); }
Received Plan::dispatch(const DispatchArgs& args) const { return impl_->dispatch(args); }
void Plan::combine(const CombineArgs& args) const { impl_->combine(args); }
void Plan::place(const PlacementTable& placement) const { impl_->place(placement); }

Received::Received() = default;
Received::Received(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Received::~Received() = default;
Received::Received(Received&&) noexcept = default;
Received& Received::operator=(Received&&) noexcept = default;

const Received::Impl& Received::get() const {
  if (impl_ == nullptr) fail(ErrorCode::kStale, "this Received is empty: it was moved from, or never came from a dispatch");
  return *impl_;
}

TensorView Received::lane(int lane_idx) const {
  const auto& lanes = get().lanes_;
  if (lane_idx < 0 || lane_idx >= static_cast<int>(lanes.size())) {
    fail_argument("lane {} was asked for, and the plan has {}", lane_idx, lanes.size());
  }
  return lanes[lane_idx];
}

TensorView Received::combine_buffer() const {
  if (!get().combine_buffer_) {
    fail(ErrorCode::kUnsupported,
         "this result has no combine buffer: only results of the compact layout that lie in the slot, of plans that combine, "
         "do");
  }
  return get().combine_buffer_;
}

const RecvSizes& Received::sizes() const { return get().sizes_; }
const Routing& Received::routing() const { return get().routing_; }
int Received::slot() const { return get().turn_.slot; }
bool Received::live() const noexcept { return impl_ != nullptr && impl_->live(); }

void Received::release() noexcept {
  if (impl_ != nullptr) impl_->release();
}

}  // namespace tokenyard
