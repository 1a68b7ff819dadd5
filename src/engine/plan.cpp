#include "tokenyard/plan.hpp"

#include <utility>

#include "base/fail.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {

const Shape& Plan::shape() const noexcept { return impl_->shape(); }
const PlanSizes& Plan::sizes() const noexcept { return impl_->sizes(); }
int Plan::num_local_experts() const noexcept { return impl_->num_local_experts(); }

Received Plan::dispatch(const DispatchArgs& args) const { return impl_->dispatch(args); }
void Plan::combine(const CombineArgs& args) const { impl_->combine(args); }

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
