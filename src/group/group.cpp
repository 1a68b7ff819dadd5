#include "tokenyard/group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "base/fail.hpp"
#include "engine/cuda/make_cuda_plan.hpp"
#include "engine/host/host_plan.hpp"
#include "group/compare_shapes.hpp"
#include "group/gather_call.hpp"
#include "group/group_impl.hpp"
#include "group/topology.hpp"
#include "group/window_impl.hpp"

namespace tokenyard {

Group::Impl::Impl(std::shared_ptr<Exchange> exchange, const GroupOptions& options)
    : exchange_(std::move(exchange)), options_(options) {
  if (exchange_ == nullptr) fail_argument("a group needs an exchange: the pointer given is null");
  if (options.timeout.count() <= 0) fail_argument("timeout is {} ms: give a positive one", options.timeout.count());
  if (options.domain.has_value() && *options.domain < 0) fail_argument("domain is {}: number domains from 0", *options.domain);
  if (exchange_->num_ranks() > kMaxRanks) {
    fail_argument("the exchange has {} ranks and a group can have {}", exchange_->num_ranks(), kMaxRanks);
  }
  Topology topology = detect_topology(*exchange_, options);
  token_ = topology.group_token;
  domain_of_ = std::move(topology.domain_of);
  obstacles_ = std::move(topology.obstacles);
  num_ranks_on_gpu_ = topology.num_ranks_on_gpu;
  has_lone_rank_ = topology.has_lone_rank;
  TraceTrack track({.group = topology.group_token,
                    .rank = exchange_->rank(),
                    .num_ranks = exchange_->num_ranks(),
                    .lowest_rank = topology.lowest_rank_of_process,
                    .several_processes = topology.several_processes});
  peers_ = std::make_shared<Peers>(exchange_->num_ranks(), std::move(topology.channel), topology.wait_style, options.timeout,
                                   std::move(track), std::move(topology.place));
}

// For calls that pass through the Exchange: what goes wrong there is a failure of the group, unless it has one already, which
// then says more about the cause.
template <class Body>
auto Group::Impl::in_exchange(Phase phase, Body&& body) {
  peers_->check();
  try {
    return body();
  } catch (const Error& error) {
    peers_->check();
    if (error.code() != ErrorCode::kTimeout && error.code() != ErrorCode::kPeerLost) throw;
    Failure failure = error.failure();
    if (failure.culprit < 0 || failure.reporter < 0) throw;
    failure.phase = phase;
    peers_->raise(failure, error.what());
  }
}

Group Group::create(std::shared_ptr<Exchange> exchange, const GroupOptions& options) {
  return Group(std::make_shared<Impl>(std::move(exchange), options));
}

int Group::rank() const noexcept { return impl_->peers_->rank(); }
int Group::num_ranks() const noexcept { return impl_->peers_->num_ranks(); }
int Group::domain_of(int rank) const noexcept { return rank >= 0 && rank < num_ranks() ? impl_->domain_of_[rank] : -1; }
std::optional<int> Group::device() const noexcept {
  const MemoryPlace& place = impl_->peers_->device_place();
  return place.on_device() ? std::optional(place.device) : std::nullopt;
}
std::chrono::milliseconds Group::timeout() const noexcept { return impl_->options_.timeout; }

int Group::num_domains() const noexcept { return *std::max_element(impl_->domain_of_.begin(), impl_->domain_of_.end()) + 1; }

Window Group::window(std::size_t num_bytes) const {
  const std::uint64_t mine = num_bytes;
  const auto gathered = impl_->in_exchange(Phase::kRendezvous, [&] {
    return gather_call(*impl_->exchange_, GroupCall::kWindow, std::as_bytes(std::span(&mine, 1)), impl_->options_.timeout);
  });
  for (std::size_t rank = 0; rank < gathered.size(); ++rank) {
    std::uint64_t theirs = 0;
    std::memcpy(&theirs, gathered[rank].data(), std::min(gathered[rank].size(), sizeof(theirs)));
    if (theirs != mine) {
      throw Error(Failure{ErrorCode::kDisagreement, Phase::kNone, static_cast<int>(rank), this->rank()},
                  fmt::format("a window is {} bytes on rank {} and {} on rank {}: all ranks must ask for the same size", mine,
                              this->rank(), theirs, rank));
    }
  }
  const std::uint64_t tag = (std::uint64_t{1} << 63) | ++impl_->num_windows_;
  const Deadline deadline(impl_->options_.timeout);
  if (!device().has_value()) {
    auto regions = impl_->peers_->share(tag, num_bytes, deadline);
    return Window(std::make_shared<Window::Impl>(impl_->peers_, std::move(regions), num_bytes, nullptr));
  }
  const std::size_t region_bytes = device_window_bytes(num_bytes, num_ranks());
  auto regions = impl_->peers_->share(tag, region_bytes, deadline, impl_->peers_->device_place());
  auto verbs = make_device_verbs(*impl_->peers_, regions, num_bytes);
  return Window(std::make_shared<Window::Impl>(impl_->peers_, std::move(regions), num_bytes, std::move(verbs)));
}

Plan Group::plan(const Shape& shape) const {
  impl_->in_exchange(Phase::kRendezvous, [&] { compare_shapes(*impl_->exchange_, shape, impl_->options_.timeout); });
  if (num_domains() > 1) {
    fail(
        ErrorCode::kUnsupported,
        "the group spans {} domains, and this version has no network between domains: ranks must be threads of one process, or "
        "processes of one host and one user that can map each other's memory, without different GroupOptions::domain{}{}",
        num_domains(), impl_->obstacles_.empty() ? "" : "; ", fmt::join(impl_->obstacles_, "; "));
  }
  const PlanPlace place{impl_->token_, impl_->num_plans_++};
  std::shared_ptr<Plan::Impl> plan;
  if (device().has_value()) {
    plan = make_cuda_plan(impl_->peers_, shape, place,
                          {.num_sms = impl_->options_.num_sms,
                           .num_ranks_on_gpu = impl_->num_ranks_on_gpu_,
                           .copy_engines = impl_->options_.copy_engines && impl_->has_lone_rank_});
  } else {
    plan = std::make_shared<HostPlan>(impl_->peers_, shape, place);
  }
  std::erase_if(impl_->plans_, [](const auto& known) { return known.expired(); });
  impl_->plans_.push_back(plan);
  return Plan(std::move(plan));
}

void Group::barrier() const {
  CallTrace trace(impl_->peers_->trace_track(), "barrier");
  trace.turn(-1, -1, ++impl_->num_barriers_, impl_->peers_->generation());
  impl_->in_exchange(Phase::kBarrier,
                     [&] { gather_call(*impl_->exchange_, GroupCall::kBarrier, {}, impl_->options_.timeout); });
}

std::optional<Failure> Group::status() const noexcept { return impl_->peers_->failure(); }

void Group::recover() const {
  // A GPU's kernels may still write to the words that reset() rewrites.
  for (const auto& known : impl_->plans_) {
    if (const auto plan = known.lock()) plan->quiesce();
  }
  const auto meet = [this] { gather_call(*impl_->exchange_, GroupCall::kRecover, {}, impl_->options_.timeout); };
  for (const Deadline deadline(impl_->options_.timeout);;) {
    try {
      meet();
      break;
    } catch (const Error& error) {
      // A rank that was in another collective call when the group failed is told so now, and recovers next.
      if (error.code() != ErrorCode::kDisagreement || !status().has_value() || deadline.passed()) throw;
    }
  }
  // Until all meet again no rank is in a call of any plan, so words may be rewritten.
  impl_->peers_->forget_failure();
  for (const auto& known : impl_->plans_) {
    if (const auto plan = known.lock()) plan->reset();
  }
  impl_->in_exchange(Phase::kBarrier, meet);
}

}  // namespace tokenyard
