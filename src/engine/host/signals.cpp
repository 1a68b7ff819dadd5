#include "engine/host/signals.hpp"

#include <algorithm>
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
                 std::vector<std::shared_ptr<MemoryRegion>> control, bool mask_late)
    : peers_(peers),
      plan_idx_(plan_idx),
      layout_(layout),
      control_(std::move(control)),
      mask_late_(mask_late),
      order_(peers->members()),
      masked_(peers->num_ranks()) {
  std::rotate(order_.begin(), std::upper_bound(order_.begin(), order_.end(), peers_->rank()), order_.end());
  reset();
}

PeerLine& Signals::line(int owner, int writer, const Turn& turn) const {
  std::byte* lines = control_[owner]->data() + layout_.lines[static_cast<int>(turn.track)][turn.slot];
  return reinterpret_cast<PeerLine*>(lines)[writer];
}

void Signals::reset() {
  for (auto& masked : masked_) masked.store(false, std::memory_order_release);
  since_masked_.reset();
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
  for (const int peer : active()) post(turn, peer, word);
}

void Signals::post_free(const Turn& turn) { post_to_all(turn, &PeerLine::free); }
void Signals::post_data(const Turn& turn) { post_to_all(turn, &PeerLine::data); }
void Signals::post_done(const Turn& turn, int peer) { post(turn, peer, &PeerLine::done); }

void Signals::post_enter(const Turn& turn, int peer, const CallHeader& header) {
  PeerLine& target = line(peer, peers_->rank(), turn);
  target.kind = header.kind;
  target.in_place_slot = static_cast<std::int8_t>(header.in_place_slot);
  target.with_weights = header.with_weights ? 1 : 0;
  target.with_given_weights = header.with_given_weights ? 1 : 0;
  target.routing_id = header.routing_id;
  target.placement = header.placement;
  post(turn, peer, &PeerLine::enter);
}

void Signals::post_enter(const Turn& turn, const CallHeader& header) {
  for (const int peer : active()) post_enter(turn, peer, header);
}

std::uint64_t Signals::load(const Turn& turn, int peer, Word word) const {
  return std::atomic_ref(line(peers_->rank(), peer, turn).*word).load(std::memory_order_acquire);
}

std::string Signals::describe(const Turn& turn, int peer, Word word) const {
  const std::uint64_t value = load(turn, peer, word);
  return fmt::format("plan {}, slot {}: expected turn {} of generation {}, last seen turn {} of generation {}", plan_idx_,
                     turn.slot, turn.number, turn.generation, value & ((std::uint64_t{1} << 48) - 1), value >> 48);
}

void Signals::check_not_left_behind(const Turn& turn, int peer, Word word, Phase phase) {
  if (load(turn, peer, word) == turn.word()) return;
  peers_->raise({ErrorCode::kDisagreement, phase, peers_->rank(), peers_->rank()},
                fmt::format("rank {} was left behind by rank {} in {}: {}", peers_->rank(), peer, to_string(phase),
                            describe(turn, peer, word)));
}

bool Signals::await(const Turn& turn, int peer, Word word, Phase phase, const Deadline& deadline) {
  if (is_masked(peer)) return false;
  delay_point();
  const auto arrived = [&] { return load(turn, peer, word) >= turn.word(); };
  if (!mask_late_) {
    peers_->wait(peer, phase, deadline, arrived, [&] { return describe(turn, peer, word); });
  } else if (!await_or_mask(peer, phase, deadline, arrived)) {
    return false;
  }
  check_not_left_behind(turn, peer, word, phase);
  return true;
}

bool Signals::await_or_mask(int peer, Phase phase, const Deadline& deadline, const std::function<bool()>& ready) {
  for (int num_excuses = 0;;) {
    const bool renewed = since_masked_.has_value() && since_masked_->elapsed() < deadline.elapsed();
    const int culprit = peers_->try_wait(peer, phase, renewed ? Deadline(*since_masked_) : deadline, ready);
    if (culprit < 0) return true;
    since_masked_.emplace(deadline.timeout());
    // Who waits for a rank that is masked here is going to mask it too, or to fail.
    constexpr int kMaxExcuses = 2;
    if (culprit != peer && is_masked(culprit) && ++num_excuses <= kMaxExcuses) continue;
    const int late = culprit == peers_->rank() || is_masked(culprit) ? peer : culprit;
    peers_->expel(late, phase);
    mask(late);
    if (late == peer) return false;
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
  if ((theirs.with_given_weights != 0) != mine.with_given_weights) {
    disagree(mine.with_given_weights ? "this rank gives weights at combine, the other none"
                                     : "this rank gives no weights at combine, the other does");
  }
  if (theirs.placement != mine.placement) {
    disagree(fmt::format("their placements differ (fingerprints {:x} and {:x})", mine.placement, theirs.placement));
  }
}

bool Signals::await_free(const Turn& turn, int peer, Phase phase, const Deadline& deadline) {
  return await(turn, peer, &PeerLine::free, phase, deadline);
}

bool Signals::await_enter(const Turn& turn, int peer, Phase phase, const CallHeader& mine, const Deadline& deadline) {
  if (!await(turn, peer, &PeerLine::enter, phase, deadline)) return false;
  check_header(turn, peer, phase, mine);
  return true;
}

bool Signals::await_done(const Turn& turn, int peer, Phase phase, const Deadline& deadline) {
  return await(turn, peer, &PeerLine::done, phase, deadline);
}

void Signals::await_all_data(const Turn& turn, Phase phase, const CallHeader& mine, const Deadline& deadline,
                             const std::function<void(int peer)>& arrived) {
  missing_.clear();
  for (const int peer : active()) missing_.push_back(peer);
  entered_.assign(control_.size(), false);
  const auto has_come = [&](int peer, Word word) { return load(turn, peer, word) >= turn.word(); };
  const auto has_news = [&](int peer) {
    return has_come(peer, &PeerLine::data) || (!entered_[peer] && has_come(peer, &PeerLine::enter));
  };
  while (!missing_.empty()) {
    std::erase_if(missing_, [&](int peer) {
      // A peer that made another call may never send: its header is looked at first. Who has sent has entered before.
      const bool has_sent = has_come(peer, &PeerLine::data);
      if (!entered_[peer] && has_come(peer, &PeerLine::enter)) {
        check_not_left_behind(turn, peer, &PeerLine::enter, phase);
        check_header(turn, peer, phase, mine);
        entered_[peer] = true;
      }
      if (!has_sent) return false;
      check_not_left_behind(turn, peer, &PeerLine::data, phase);
      arrived(peer);
      return true;
    });
    if (missing_.empty() || std::any_of(missing_.begin(), missing_.end(), has_news)) continue;
    // Nobody new: wait for the first, but take whoever comes.
    delay_point();
    const auto any_news = [&] { return std::any_of(missing_.begin(), missing_.end(), has_news); };
    const int peer = missing_.front();
    if (!mask_late_) {
      peers_->wait(peer, phase, deadline, any_news,
                   [&] { return describe(turn, peer, entered_[peer] ? &PeerLine::data : &PeerLine::enter); });
    } else {
      await_or_mask(peer, phase, deadline, any_news);
      std::erase_if(missing_, [&](int late) { return is_masked(late); });
    }
  }
}

int Signals::first_missing(const Turn& turn) const {
  for (const int peer : active()) {
    if (load(turn, peer, &PeerLine::data) < turn.word()) return peer;
  }
  return -1;
}

int Signals::in_place_slot(const Turn& turn, int peer) const { return line(peers_->rank(), peer, turn).in_place_slot; }

void Signals::mask(int rank) { masked_[rank].store(true, std::memory_order_release); }

}  // namespace tokenyard
