#include "tokenyard/plan.hpp"

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/check_args.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {
namespace {

// Where a lane's rows end and the next lane's begin in an expert layout's memory.
std::size_t expanded_lane_bytes(const Lane& lane, std::int64_t num_rows) {
  constexpr std::size_t kAlignment = 256;
  return (static_cast<std::size_t>(num_rows) * lane.row_bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

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
      control_layout_(control_layout(shape_, dimensions_)),
      combine_layout_(combine_layout(shape_, dimensions_)),
      counters_(peers_->num_ranks()) {
  const Deadline deadline(peers_->timeout());
  control_ = peers_->share(window_tag(WindowKind::kControl, 0, 0), control_layout_.num_bytes, deadline);
  for (int slot = 0; slot < kNumSlots; ++slot) {
    open_slot(slot, dimensions_.first_recv_capacity, peers_->timeout());
    combine_windows_[slot] = peers_->share(window_tag(WindowKind::kCombine, slot, 0), combine_layout_.num_bytes, deadline);
  }
  signals_.emplace(peers_.get(), plan_idx_, control_layout_, control_, shape_.mask_late_ranks);
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
  const bool may_grow = shape_.overflow == Overflow::kGrow && shape_.layout != Layout::kExpertPadded;
  slot->expanded = MemoryRegion::anonymous(may_grow ? num_bytes + num_bytes / 4 : num_bytes);
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
      slot.borrowed = MemoryRegion::anonymous(num_bytes + (shape_.overflow == Overflow::kGrow ? num_bytes / 4 : 0));
    }
    data = slot.borrowed->data();
  }
  return tensor_of_rows(shape_, combine_lane_, sizes.num_local_experts, sizes.num_tensor_rows, data);
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

void Plan::Impl::release(const Turn& turn) noexcept {
  if (!is_live(turn)) return;
  slots_[turn.slot].live.reset();
  // In latency mode the rows have left the window when the dispatch is complete, which freed it.
  if (shape_.mode == Mode::kLatency) return;
  slots_[turn.slot].owes_free = true;
  free_if_unread(turn.slot);
}

void Plan::Impl::free_if_unread(int slot_idx) noexcept {
  Slot& slot = slots_[slot_idx];
  if (!slot.owes_free || slot.num_readings > 0) return;
  slot.owes_free = false;
  delay_point();
  signals_->post_free(signals_->next(Track::kDispatch, slot_idx));
}

void Plan::Impl::mask_rank(int rank) {
  if (shape_.mode != Mode::kLatency) {
    fail(ErrorCode::kUnsupported, "ranks can be masked in latency mode only: in throughput mode they write into shared rows");
  }
  if (rank < 0 || rank >= dimensions_.num_ranks || rank == peers_->rank()) {
    fail_argument("rank {} cannot be masked: name another rank, from 0 to {}", rank, dimensions_.num_ranks - 1);
  }
  if (signals_->is_masked(rank)) return;
  peers_->expel(rank, Phase::kNone);
  signals_->mask(rank);
}

std::vector<int> Plan::Impl::masked_ranks() const {
  std::vector<int> ranks;
  for (int rank = 0; rank < dimensions_.num_ranks; ++rank) {
    if (signals_->is_masked(rank)) ranks.push_back(rank);
  }
  return ranks;
}

std::vector<PeerCounters> Plan::Impl::counters() const {
  std::vector<PeerCounters> snapshot;
  for (const AtomicCounters& counters : counters_) {
    snapshot.push_back({counters.num_calls.load(std::memory_order_relaxed), counters.num_rows.load(std::memory_order_relaxed),
                        counters.wait_nanoseconds.load(std::memory_order_relaxed)});
  }
  return snapshot;
}

std::vector<std::byte*> Plan::Impl::active_windows(const std::vector<std::shared_ptr<MemoryRegion>>& windows) const {
  std::vector<std::byte*> bases(windows.size(), nullptr);
  for (const int rank : signals_->active()) bases[rank] = windows[rank]->data();
  return bases;
}

void Plan::Impl::await_data(const Turn& turn, Phase phase, const CallHeader& header, std::chrono::milliseconds timeout) {
  const Deadline deadline(timeout);
  signals_->await_all_data(turn, phase, header, deadline, [&](int peer) {
    AtomicCounters& counters = counters_[peer];
    const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Deadline::Clock::now() - deadline.start());
    counters.num_calls.fetch_add(1, std::memory_order_relaxed);
    counters.wait_nanoseconds.fetch_add(static_cast<std::uint64_t>(waited.count()), std::memory_order_relaxed);
  });
}

bool Plan::Impl::is_done(const Turn& turn) const {
  return peers_->failure().has_value() || turn.generation != peers_->generation() || signals_->all_data_arrived(turn);
}

bool Plan::Impl::wait_done(const Turn& turn, std::chrono::milliseconds timeout) const {
  if (is_done(turn)) return true;
  const WaitTrace trace(peers_->trace_track(),
                        to_string(turn.track == Track::kDispatch ? Phase::kDispatchRows : Phase::kCombineRows),
                        signals_->first_missing(turn));
  const Deadline deadline(timeout);
  Backoff backoff(peers_->wait_style());
  while (!is_done(turn)) {
    if (backoff.pause() && deadline.passed()) return is_done(turn);
  }
  return true;
}

void Plan::Impl::call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback) {
  if (watcher_ == nullptr) watcher_ = std::make_unique<Watcher>(peers_->wait_style());
  watcher_->add([this, turn, deadline = Deadline(timeout)] { return is_done(turn) || deadline.passed(); }, std::move(callback));
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
  signals_->reset();
}

const Shape& Plan::shape() const noexcept { return impl_->shape(); }
const PlanSizes& Plan::sizes() const noexcept { return impl_->sizes(); }
int Plan::num_local_experts() const noexcept { return impl_->num_local_experts(); }

Received Plan::dispatch(const DispatchArgs& args) const {
  DispatchCall call = impl_->begin(args);
  return impl_->complete(&call);
}

void Plan::combine(const CombineArgs& args) const {
  CombineCall call = impl_->begin(args);
  impl_->complete(&call);
}

void Plan::mask_rank(int rank) const { impl_->mask_rank(rank); }
std::vector<int> Plan::masked_ranks() const { return impl_->masked_ranks(); }
std::vector<PeerCounters> Plan::counters() const { return impl_->counters(); }
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

void Received::Impl::check_rows() const {
  if (!in_slot_ || live()) return;
  fail(ErrorCode::kStale, "the rows were in slot {} and are gone: the result has been released, or the group has recovered",
       turn_.slot);
}

TensorView Received::lane(int lane_idx) const {
  const Impl& impl = get();
  impl.check_rows();
  const auto& lanes = impl.lanes_;
  if (lane_idx < 0 || lane_idx >= static_cast<int>(lanes.size())) {
    fail_argument("lane {} was asked for, and the plan has {}", lane_idx, lanes.size());
  }
  return lanes[lane_idx];
}

TensorView Received::combine_buffer() const {
  const Impl& impl = get();
  impl.check_rows();
  if (!impl.in_slot_) {
    fail(ErrorCode::kUnsupported,
         "this result has no combine buffer: it was delivered to the caller's tensors, and the buffer belongs to the slot");
  }
  return impl.plan_->combine_buffer(impl.turn_, impl.sizes_);
}

const RecvSizes& Received::sizes() const { return get().sizes_; }
const Routing& Received::routing() const { return get().routing_; }
int Received::slot() const { return get().turn_.slot; }
bool Received::live() const noexcept { return impl_ != nullptr && impl_->live(); }

void Received::release() noexcept {
  if (impl_ != nullptr) impl_->release();
}

}  // namespace tokenyard
