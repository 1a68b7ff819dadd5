#include "transport/peers.hpp"

#include <algorithm>
#include <thread>

#include "base/fail.hpp"
#include "base/hooks.hpp"

namespace tokenyard {
namespace {

constexpr std::uint64_t kControlPageTag = 0;

// A rank that waits shows a pulse every millisecond; one that shows none for so long has been stopped, or has lost its core.
constexpr std::chrono::milliseconds kLongestPause{500};
// So long a rank may seem to wait for nobody although it is between two waits.
constexpr std::chrono::milliseconds kLongestChange{20};

}  // namespace

Peers::Peers(int num_ranks, std::unique_ptr<HandleChannel> channel, WaitStyle style, std::chrono::milliseconds timeout,
             TraceTrack track, MemoryPlace device_place)
    : num_ranks_(num_ranks),
      channel_(std::move(channel)),
      style_(style),
      timeout_(timeout),
      track_(std::move(track)),
      device_place_(std::move(device_place)),
      pages_(num_ranks) {
  pages_ = share(kControlPageTag, kControlPageBytes, Deadline(timeout));
  if (!device_place_.on_device()) return;
  for (const auto& page : pages_) {
    auto* const on_device = page == nullptr ? nullptr : reinterpret_cast<ControlPage*>(page->device_data(device_place_.device));
    device_failure_words_.push_back(on_device == nullptr ? nullptr : &on_device->failure);
  }
}

Peers::~Peers() { word(rank(), &ControlPage::left).store(1, std::memory_order_release); }

std::atomic_ref<std::uint64_t> Peers::word(int rank, std::uint64_t ControlPage::* member) const {
  return std::atomic_ref<std::uint64_t>(reinterpret_cast<ControlPage*>(pages_[rank]->data())->*member);
}

std::vector<std::shared_ptr<MemoryRegion>> Peers::share(std::uint64_t tag, std::size_t num_bytes, const Deadline& deadline,
                                                        const MemoryPlace& place) {
  std::vector<std::shared_ptr<MemoryRegion>> regions(num_ranks_);
  regions[rank()] = channel_->allocate(num_bytes, place);
  channel_->publish(tag, regions[rank()], deadline);
  for (const int peer : members()) {
    if (peer == rank()) continue;
    // Asked again after it was true, it must not look for a second region.
    const auto arrived = [&] {
      if (regions[peer] == nullptr) regions[peer] = channel_->try_collect(peer, tag, num_bytes, place);
      return regions[peer] != nullptr;
    };
    const auto describe = [&] { return fmt::format("expected {} bytes of its memory", num_bytes); };
    if (pages_[rank()] != nullptr) {
      wait(peer, Phase::kMapping, deadline, arrived, describe);
      continue;
    }
    // The control pages themselves are still on their way: wait without them.
    Backoff backoff(style_);
    while (!arrived()) {
      if (!backoff.pause()) continue;
      const bool gone = channel_->is_gone(peer);
      if ((!gone && !deadline.passed()) || arrived()) continue;
      throw Error(Failure{gone ? ErrorCode::kPeerLost : ErrorCode::kTimeout, Phase::kMapping, peer, rank()},
                  fmt::format("rank {}: rank {} {} while memory was being mapped ({})", rank(), peer,
                              gone ? "is gone" : "did not answer", describe()));
    }
  }
  return regions;
}

Peers::Announcement::Announcement(const Peers& peers, Phase phase, int peer) : peers_(peers) {
  const int rank = peers_.rank();
  if (peers_.num_announcements_.fetch_add(1) > 0) {
    peers_.word(rank, &ControlPage::threads).store(1, std::memory_order_relaxed);
  }
  waiting_ = pack_waiting(phase, peer);
  peers_.word(rank, &ControlPage::waiting).store(waiting_, std::memory_order_release);
}

// Release: whoever sees that this rank waits no longer also sees the failure because of which it stopped.
Peers::Announcement::~Announcement() {
  peers_.num_announcements_.fetch_sub(1);
  // Another thread's announcement stays.
  peers_.word(peers_.rank(), &ControlPage::waiting).compare_exchange_strong(waiting_, 0, std::memory_order_acq_rel);
}

void Peers::beat() const { word(rank(), &ControlPage::pulse).fetch_add(1, std::memory_order_relaxed); }

Peers::WaitEnd Peers::look(int peer, const Deadline& deadline, const std::function<bool()>& ready) {
  beat();
  check();
  if (channel_->is_gone(peer)) return ready() ? WaitEnd::kReady : WaitEnd::kGone;  // it may have done its part before it went
  return !deadline.passed() || ready() ? WaitEnd::kReady : WaitEnd::kLate;
}

void Peers::check_wait(int peer, Phase phase, const Deadline& deadline, const std::function<bool()>& ready,
                       const std::function<std::string()>& describe) {
  const WaitEnd end = look(peer, deadline, ready);
  if (end == WaitEnd::kReady) return;
  if (end == WaitEnd::kGone) {
    raise({ErrorCode::kPeerLost, phase, peer, rank()},
          fmt::format("rank {} waited {} ms for rank {} in {}, which has {}: {}", rank(), deadline.elapsed().count(), peer,
                      to_string(phase), has_left(peer) ? "left the group" : "died", describe()));
  }
  const Diagnosis diagnosis = diagnose(peer, ready);
  if (ready()) return;
  raise({diagnosis.code, phase, diagnosis.culprit, rank()},
        fmt::format("rank {} waited {} ms for rank {} in {}: {}{}", rank(), deadline.elapsed().count(), peer, to_string(phase),
                    describe(), diagnosis.text));
}

void Peers::expel(int peer, Phase phase) {
  std::uint64_t none = 0;
  word(peer, &ControlPage::failure)
      .compare_exchange_strong(none, pack({ErrorCode::kTimeout, phase, peer, rank()}), std::memory_order_acq_rel);
}

Peers::Diagnosis Peers::diagnose(int peer, const std::function<bool()>& ready) const {
  const Deadline limit(4 * kLongestPause);
  Diagnosis diagnosis{ErrorCode::kTimeout, peer, ""};
  std::vector<int> visited{rank()};
  while (true) {
    const std::uint64_t waiting = word(peer, &ControlPage::waiting).load(std::memory_order_acquire);
    const Watched seen = watch(peer, waiting, ready);
    if (seen == Watched::kMoved && !limit.passed()) continue;
    diagnosis.culprit = peer;
    if (seen == Watched::kNotNeeded) return diagnosis;
    if (waiting == 0) {
      diagnosis.text += fmt::format("; rank {} waits for nobody: it is late, stopped or was never asked", peer);
      return diagnosis;
    }
    const int next = waiting_peer(waiting);
    const char* phase = to_string(waiting_phase(waiting));
    if (seen == Watched::kStopped) {
      diagnosis.text += fmt::format("; rank {} was waiting for rank {} in {}, and has been stopped there", peer, next, phase);
      return diagnosis;
    }
    visited.push_back(peer);
    diagnosis.text += fmt::format("; rank {} itself waits for rank {} in {}", peer, next, phase);
    if (!is_member(next) || std::find(visited.begin(), visited.end(), next) != visited.end()) {
      const bool threads = std::any_of(visited.begin(), visited.end(), [this](int waiter) {
        return word(waiter, &ControlPage::threads).load(std::memory_order_relaxed) != 0;
      });
      diagnosis.culprit = visited[1];
      if (threads) {
        diagnosis.text += ": these may be waits of several threads that have nothing to do with each other";
        return diagnosis;
      }
      diagnosis.text += ": they wait for each other, because their calls came in different orders";
      diagnosis.code = ErrorCode::kDisagreement;
      return diagnosis;
    }
    peer = next;
  }
}

Peers::Watched Peers::watch(int peer, std::uint64_t waiting, const std::function<bool()>& ready) const {
  const Deadline limit(waiting == 0 ? kLongestChange : kLongestPause);
  const std::uint64_t first = word(peer, &ControlPage::pulse).load(std::memory_order_relaxed);
  while (true) {
    beat();  // others may be watching this rank
    check();
    if (ready()) return Watched::kNotNeeded;
    if (word(peer, &ControlPage::waiting).load(std::memory_order_acquire) != waiting) return Watched::kMoved;
    // Between two beats a rank looks once whether its wait is over; the first beat may come from before its wait was.
    if (word(peer, &ControlPage::pulse).load(std::memory_order_relaxed) - first >= 2) return Watched::kWaits;
    if (limit.passed()) return Watched::kStopped;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

bool Peers::spread(const Failure& failure) noexcept {
  std::uint64_t none = 0;
  if (!word(rank(), &ControlPage::failure).compare_exchange_strong(none, pack(failure), std::memory_order_acq_rel))
    return false;
  for (const int peer : members()) {
    none = 0;
    word(peer, &ControlPage::failure).compare_exchange_strong(none, pack(failure), std::memory_order_acq_rel);
  }
  return true;
}

void Peers::raise(const Failure& failure, const std::string& text) {
  if (!spread(failure)) check();
  throw Error(failure, text);
}

std::optional<Failure> Peers::failure() const noexcept {
  const std::uint64_t packed = word(rank(), &ControlPage::failure).load(std::memory_order_acquire);
  if (packed == 0) return std::nullopt;
  const Failure failure = unpack_failure(packed);
  if (!device_place_.on_device() || failure.code != ErrorCode::kTimeout) return failure;
  const Failure loss{ErrorCode::kPeerLost, failure.phase, failure.culprit, failure.reporter};
  std::uint64_t judged = judged_failure_.load(std::memory_order_acquire);
  if (judged != packed && judged != pack(loss)) {
    const bool is_gone = is_member(failure.culprit) && failure.culprit != rank() && channel_->is_gone(failure.culprit);
    judged = is_gone ? pack(loss) : packed;
    judged_failure_.store(judged, std::memory_order_release);
  }
  return unpack_failure(judged);
}

void Peers::check() const {
  if (const auto known = failure()) throw_failure(*known);
}

bool Peers::has_left(int peer) const { return word(peer, &ControlPage::left).load(std::memory_order_acquire) != 0; }

void Peers::check_members(Phase phase) {
  check();
  for (const int peer : members()) {
    if (peer == rank() || !channel_->is_gone(peer) || has_left(peer)) continue;
    raise({ErrorCode::kPeerLost, phase, peer, rank()},
          fmt::format("rank {} was waiting in {} when rank {} died", rank(), to_string(phase), peer));
  }
}

void Peers::throw_failure(const Failure& failure) const {
  throw Error(
      failure,
      fmt::format("rank {}: the group has failed: rank {} reported {}{} in {}; Group::recover() or a new group is needed",
                  rank(), failure.reporter, to_string(failure.code),
                  failure.culprit < 0 ? "" : fmt::format(" of rank {}", failure.culprit), to_string(failure.phase)));
}

void Peers::forget_failure() {
  word(rank(), &ControlPage::failure).store(0, std::memory_order_release);
  judged_failure_.store(0, std::memory_order_release);
  word(rank(), &ControlPage::waiting).store(0, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace tokenyard
