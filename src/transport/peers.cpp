#include "transport/peers.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "base/hooks.hpp"

namespace tokenyard {
namespace {

constexpr std::uint64_t kControlPageTag = 0;

}  // namespace

Peers::Peers(int num_ranks, std::unique_ptr<HandleChannel> channel, WaitStyle style, std::chrono::milliseconds timeout)
    : num_ranks_(num_ranks), channel_(std::move(channel)), style_(style), timeout_(timeout), pages_(num_ranks) {
  pages_ = share(kControlPageTag, kControlPageBytes, Deadline(timeout));
}

Peers::~Peers() { word(rank(), &ControlPage::left).store(1, std::memory_order_release); }

std::atomic_ref<std::uint64_t> Peers::word(int rank, std::uint64_t ControlPage::*member) const {
  return std::atomic_ref<std::uint64_t>(reinterpret_cast<ControlPage*>(pages_[rank]->data())->*member);
}

std::vector<std::shared_ptr<MemoryRegion>> Peers::share(std::uint64_t tag, std::size_t num_bytes, const Deadline& deadline) {
  std::vector<std::shared_ptr<MemoryRegion>> regions(num_ranks_);
  regions[rank()] = channel_->allocate(num_bytes);
  channel_->publish(tag, regions[rank()], deadline);
  for (const int peer : members()) {
    if (peer == rank()) continue;
    const auto arrived = [&] {
      regions[peer] = channel_->try_collect(peer, tag, num_bytes);
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
      if ((!gone && !deadline.passed()) || arrived()) {
        if (regions[peer] != nullptr) break;
        continue;
      }
      throw Error(Failure{gone ? ErrorCode::kPeerLost : ErrorCode::kTimeout, Phase::kMapping, peer, rank()},
                  fmt::format("rank {}: rank {} {} while memory was being mapped ({})", rank(), peer,
                              gone ? "is gone" : "did not answer", describe()));
    }
  }
  return regions;
}

void Peers::announce_wait(Phase phase, int peer) {
  word(rank(), &ControlPage::waiting).store(pack_waiting(phase, peer), std::memory_order_relaxed);
}

void Peers::announce_no_wait() { word(rank(), &ControlPage::waiting).store(0, std::memory_order_relaxed); }

void Peers::check_wait(int peer, Phase phase, const Deadline& deadline, const std::function<bool()>& ready,
                       const std::function<std::string()>& describe) {
  check();
  if (channel_->is_gone(peer)) {
    if (ready()) return;  // it did its part before it went
    const bool left = word(peer, &ControlPage::left).load(std::memory_order_acquire) != 0;
    raise({ErrorCode::kPeerLost, phase, peer, rank()},
          fmt::format("rank {} waited {} ms for rank {} in {}, which has {}: {}", rank(), deadline.elapsed().count(), peer,
                      to_string(phase), left ? "left the group" : "died", describe()));
  }
  if (!deadline.passed() || ready()) return;
  std::string chain;
  const int culprit = find_culprit(peer, &chain);
  raise({ErrorCode::kTimeout, phase, culprit, rank()},
        fmt::format("rank {} waited {} ms for rank {} in {}: {}{}", rank(), deadline.elapsed().count(), peer, to_string(phase),
                    describe(), chain));
}

int Peers::find_culprit(int peer, std::string* chain) const {
  std::vector<int> visited{rank()};
  while (true) {
    visited.push_back(peer);
    const std::uint64_t waiting = word(peer, &ControlPage::waiting).load(std::memory_order_relaxed);
    if (waiting == 0) {
      *chain += fmt::format("; rank {} waits for nobody: it is late, stopped or was never asked", peer);
      return peer;
    }
    const int next = waiting_peer(waiting);
    *chain += fmt::format("; rank {} itself waits for rank {} in {}", peer, next, to_string(waiting_phase(waiting)));
    if (!is_member(next) || std::find(visited.begin(), visited.end(), next) != visited.end()) return visited[1];
    peer = next;
  }
}

void Peers::raise(const Failure& failure, const std::string& text) {
  std::uint64_t expected = 0;
  if (!word(rank(), &ControlPage::failure).compare_exchange_strong(expected, pack(failure), std::memory_order_acq_rel)) {
    throw_failure(unpack_failure(expected));
  }
  for (const int peer : members()) {
    std::uint64_t none = 0;
    word(peer, &ControlPage::failure).compare_exchange_strong(none, pack(failure), std::memory_order_acq_rel);
  }
  announce_no_wait();
  throw Error(failure, text);
}

std::optional<Failure> Peers::failure() const noexcept {
  const std::uint64_t packed = word(rank(), &ControlPage::failure).load(std::memory_order_acquire);
  if (packed == 0) return std::nullopt;
  return unpack_failure(packed);
}

void Peers::check() const {
  if (const auto known = failure()) throw_failure(*known);
}

void Peers::throw_failure(const Failure& failure) const {
  throw Error(failure, fmt::format("rank {}: the group has failed: rank {} reported {} of rank {} in {}; Group::recover() or a "
                                   "new group is needed",
                                   rank(), failure.reporter, to_string(failure.code), failure.culprit,
                                   to_string(failure.phase)));
}

void Peers::forget_failure() {
  word(rank(), &ControlPage::failure).store(0, std::memory_order_release);
  word(rank(), &ControlPage::waiting).store(0, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace tokenyard
