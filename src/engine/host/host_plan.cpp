#include "engine/host/host_plan.hpp"

#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"

namespace tokenyard {

HostPlan::HostPlan(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place)
    : Plan::Impl(std::move(peers), std::move(shape), place, MemoryPlace{}), counters_(peers_->num_ranks()) {
  open_windows();
  signals_.emplace(peers_.get(), place_.plan_idx, control_layout_, control_, shape_.mask_late_ranks);
}

void HostPlan::release(const Turn& turn) noexcept {
  if (!is_live(turn)) return;
  slots_[turn.slot].live.reset();
  // In latency mode the rows have left the window when the dispatch is complete, which freed it.
  if (shape_.mode == Mode::kLatency) return;
  slots_[turn.slot].owes_free = true;
  free_if_unread(turn.slot);
}

void HostPlan::free_if_unread(int slot_idx) noexcept {
  Slot& slot = slots_[slot_idx];
  if (!slot.owes_free || slot.num_readings > 0) return;
  slot.owes_free = false;
  delay_point();
  signals_->post_free(signals_->next(Track::kDispatch, slot_idx));
}

void HostPlan::check_execution(const Execution& execution) {
  const bool is_default = execution.stream == nullptr && execution.wait_for == nullptr && execution.record == nullptr &&
                          execution.num_sms == 0 && execution.copies == Copies::kChosen;
  if (is_default) return;
  fail(ErrorCode::kUnsupported,
       "a stream, events, num_sms or copies are given, and the group's ranks compute on the host: leave execution as it is, or "
       "set GroupOptions::device");
}

void HostPlan::mask_rank(int rank) {
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

std::vector<int> HostPlan::masked_ranks() const {
  std::vector<int> ranks;
  for (int rank = 0; rank < dimensions_.num_ranks; ++rank) {
    if (signals_->is_masked(rank)) ranks.push_back(rank);
  }
  return ranks;
}

std::vector<PeerCounters> HostPlan::counters() const {
  std::vector<PeerCounters> snapshot;
  for (const AtomicCounters& counters : counters_) {
    snapshot.push_back({counters.num_calls.load(std::memory_order_relaxed), counters.num_rows.load(std::memory_order_relaxed),
                        counters.wait_nanoseconds.load(std::memory_order_relaxed)});
  }
  return snapshot;
}

std::vector<std::byte*> HostPlan::active_windows(const std::vector<std::shared_ptr<MemoryRegion>>& windows) const {
  std::vector<std::byte*> bases(windows.size(), nullptr);
  for (const int rank : signals_->active()) bases[rank] = windows[rank]->data();
  return bases;
}

void HostPlan::await_data(const Turn& turn, Phase phase, const CallHeader& header, std::chrono::milliseconds timeout) {
  const Deadline deadline(timeout);
  signals_->await_all_data(turn, phase, header, deadline, [&](int peer) {
    AtomicCounters& counters = counters_[peer];
    const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Deadline::Clock::now() - deadline.start());
    counters.num_calls.fetch_add(1, std::memory_order_relaxed);
    counters.wait_nanoseconds.fetch_add(static_cast<std::uint64_t>(waited.count()), std::memory_order_relaxed);
  });
}

bool HostPlan::is_done(const Turn& turn) const {
  return peers_->failure().has_value() || turn.generation != peers_->generation() || signals_->all_data_arrived(turn);
}

bool HostPlan::wait_done(const Turn& turn, std::chrono::milliseconds timeout) const {
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

void HostPlan::call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback) {
  if (watcher_ == nullptr) watcher_ = std::make_unique<Watcher>(peers_->wait_style());
  watcher_->add([this, turn, deadline = Deadline(timeout)] { return is_done(turn) || deadline.passed(); }, std::move(callback));
}

void HostPlan::reset() {
  Plan::Impl::reset();
  signals_->reset();
}

}  // namespace tokenyard
