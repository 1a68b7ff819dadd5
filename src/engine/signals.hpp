// The words that ranks post to each other about a slot's turns, and the waits for them.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "layout/plan_layout.hpp"
#include "layout/signal_word.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

// One turn of one slot.
struct Turn {
  Track track;
  int slot;
  std::uint64_t number;
  std::uint16_t generation;

  std::uint64_t word() const { return signal_word(generation, number); }
};

// What a rank says about a call when it enters a turn.
struct CallHeader {
  CallKind kind;
  int in_place_slot = -1;  // combine: the dispatch slot in which this rank's contributions can be read, or -1
  bool with_weights = false;
  std::uint64_t routing_id = 0;
  std::uint64_t placement = 0;
};

class Signals {
 public:
  // `control[r]` is rank r's control window.
  Signals(Peers* peers, std::uint32_t plan_idx, const ControlLayout& layout,
          std::vector<std::shared_ptr<MemoryRegion>> control);

  // All slots are free for turn 1 of the present generation. For creation, and for recovery between two barriers.
  void reset();

  // The turn that comes next; begin() makes it the present one.
  Turn next(Track track, int slot) const;
  Turn begin(Track track, int slot);

  // Release: all that this thread has written to a peer before is visible to it once it has awaited the word.
  void post_free(const Turn& turn);  // to all: for `turn`, this rank's side of the slot may be written to
  void post_enter(const Turn& turn, int peer, const CallHeader& header);
  void post_data(const Turn& turn);  // to all
  void post_done(const Turn& turn, int peer);

  // Acquire: pairs with the post of the same name. Each waits at most `timeout`.
  void await_free(const Turn& turn, int peer, Phase phase, std::chrono::milliseconds timeout);
  // Also checks that the peer makes the same call; so does await_data, before the data are there.
  void await_enter(const Turn& turn, int peer, Phase phase, const CallHeader& mine, std::chrono::milliseconds timeout);
  void await_data(const Turn& turn, int peer, Phase phase, const CallHeader& mine, std::chrono::milliseconds timeout);
  void await_done(const Turn& turn, int peer, Phase phase, std::chrono::milliseconds timeout);

  // What the peer said when it entered the turn; valid after await_enter or await_data.
  int in_place_slot(const Turn& turn, int peer) const;

 private:
  using Word = std::uint64_t PeerLine::*;

  PeerLine& line(int owner, int writer, const Turn& turn) const;
  void post(const Turn& turn, int peer, Word word);
  void post_to_all(const Turn& turn, Word word);
  void await(const Turn& turn, int peer, Word word, Phase phase, std::chrono::milliseconds timeout);
  void check_header(const Turn& turn, int peer, Phase phase, const CallHeader& mine);

  Peers* peers_;
  std::uint32_t plan_idx_;
  ControlLayout layout_;
  std::vector<std::shared_ptr<MemoryRegion>> control_;
  std::array<std::array<std::uint64_t, kNumSlots>, kNumTracks> turns_{};
};

}  // namespace tokenyard
