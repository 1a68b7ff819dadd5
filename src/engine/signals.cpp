#include "engine/signals.hpp"

#include <atomic>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"

namespace tokenyard {
namespace {

const char* to_string(CallKind kind) {
  switch (kind) {
    case CallKind::kDispatch: return "dispatch";
    case CallKind::kCachedDispatch: return "cached dispatch";
    case CallKind::kCombine: return "combine";
  }
  return "unknown call";
}

}  // namespace

Signals::Signals(Peers* peers, std::uint32_t plan_idx, const ControlLayout& layout,
                 std::vector<std::shared_ptr<MemoryRegion>> control)
    : peers_(peers), plan_idx_(plan_idx), layout_(layout), control_(std::move(control)) {
  reset();
}

PeerLine& Signals::line(int owner, int writer, const Turn& turn) const {
  std::byte* lines = control_[owner]->data() + layout_.lines[static_cast<int>(turn.track)][turn.slot];
  return reinterpret_cast<PeerLine*>(lines)[writer];
}

void Signals::reset() {
  for (const Track track : {Track::kDispatch, Track::kCombine}) {
    for (int slot = 0; slot < kNumSlots; ++slot) {
      turns_[static_cast<int>(track)][slot] = 0;
      const Turn first = next(track, slot);
      for (const int peer : peers_->members()) {
        // A peer overwrites this word only after this rank's part in turn 1.
        std::atomic_ref(line(peers_->rank(), peer, first).free).store(first.word(), std::memory_order_release);
      }
    }
  }
}

Turn Signals::next(Track track, int slot) const {
  return {track, slot, turns_[static_cast<int>(track)][slot] + 1, peers_->generation()};
}

Turn Signals::begin(Track track, int slot) {
  const Turn turn = next(track, slot);
  ++turns_[static_cast<int>(track)][slot];
  return turn;
}

void Signals::post(const Turn& turn, int peer, Word word) {
  delay_point();
  std::atomic_ref(line(peer, peers_->rank(), turn).*word).store(turn.word(), std::memory_order_release);
}

void Signals::post_to_all(const Turn& turn, Word word) {
  for (const int peer : peers_->members()) post(turn, peer, word);
}

void Signals::post_free(const Turn& turn) { post_to_all(turn, &PeerLine::free); }
void Signals::post_data(const Turn& turn) { post_to_all(turn, &PeerLine::data); }
void Signals::post_done(const Turn& turn, int peer) { post(turn, peer, &PeerLine::done); }

void Signals::post_enter(const Turn& turn, int peer, const CallHeader& header) {
  PeerLine& target = line(peer, peers_->rank(), turn);
  target.kind = header.kind;
  target.in_place_slot = header.in_place_slot;
  target.with_weights = header.with_weights ? 1 : 0;
  target.routing_id = header.routing_id;
  target.placement = header.placement;
  post(turn, peer, &PeerLine::enter);
}

void Signals::await(const Turn& turn, int peer, Word word, Phase phase, std::chrono::milliseconds timeout) {
  delay_point();
  const std::atomic_ref<std::uint64_t> posted(line(peers_->rank(), peer, turn).*word);
  std::uint64_t value = 0;
  const auto arrived = [&] {
    value = posted.load(std::memory_order_acquire);
    return value >= turn.word();
  };
  const auto describe = [&] {
    return fmt::format("plan {}, slot {}: expected turn {} of generation {}, last seen turn {} of generation {}", plan_idx_,
                       turn.slot, turn.number, turn.generation, value & ((std::uint64_t{1} << 48) - 1), value >> 48);
  };
  peers_->wait(peer, phase, Deadline(timeout), arrived, describe);
  if (value != turn.word()) {
    peers_->raise(
        {ErrorCode::kDisagreement, phase, peers_->rank(), peers_->rank()},
        fmt::format("rank {} was left behind by rank {} in {}: {}", peers_->rank(), peer, to_string(phase), describe()));
  }
}

void Signals::check_header(const Turn& turn, int peer, Phase phase, const CallHeader& mine) {
  const PeerLine& theirs = line(peers_->rank(), peer, turn);
  const auto disagree = [&](const std::string& text) {
    peers_->raise(
        {ErrorCode::kDisagreement, phase, peer, peers_->rank()},
        fmt::format("rank {} and rank {} disagree in {}, plan {}, slot {}, turn {}: {}; calls on a plan must come in the "
                    "same order on all ranks",
                    peers_->rank(), peer, to_string(phase), plan_idx_, turn.slot, turn.number, text));
  };
  if (theirs.kind != mine.kind) {
    disagree(fmt::format("this rank calls {}, the other {}", to_string(mine.kind), to_string(theirs.kind)));
  }
  if (theirs.routing_id != mine.routing_id) {
    disagree(fmt::format("this rank works from Routing {:x}, the other from {:x}", mine.routing_id, theirs.routing_id));
  }
  if ((theirs.with_weights != 0) != mine.with_weights) {
    disagree(mine.with_weights ? "this rank gives weights, the other none" : "this rank gives no weights, the other does");
  }
  if (theirs.placement != mine.placement) {
    disagree(fmt::format("their placements differ (fingerprints {:x} and {:x})", mine.placement, theirs.placement));
  }
}

void Signals::await_free(const Turn& turn, int peer, Phase phase, std::chrono::milliseconds timeout) {
  await(turn, peer, &PeerLine::free, phase, timeout);
}

void Signals::await_enter(const Turn& turn, int peer, Phase phase, const CallHeader& mine, std::chrono::milliseconds timeout) {
  await(turn, peer, &PeerLine::enter, phase, timeout);
  check_header(turn, peer, phase, mine);
}

void Signals::await_data(const Turn& turn, int peer, Phase phase, const CallHeader& mine, std::chrono::milliseconds timeout) {
  await_enter(turn, peer, phase, mine, timeout);
  await(turn, peer, &PeerLine::data, phase, timeout);
}

void Signals::await_done(const Turn& turn, int peer, Phase phase, std::chrono::milliseconds timeout) {
  await(turn, peer, &PeerLine::done, phase, timeout);
}

int Signals::in_place_slot(const Turn& turn, int peer) const { return line(peers_->rank(), peer, turn).in_place_slot; }

}  // namespace tokenyard
