// The words that ranks post to each other about a slot's turns, and the waits for them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <vector>

#include "base/deadline.hpp"
#include "engine/calls.hpp"
#include "layout/plan_layout.hpp"
#include "layout/signal_word.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

class Signals {
 public:
  // `control[r]` is rank r's control window. mask_late: a rank for which a wait is in vain is masked, instead of failing the
  // group.
  Signals(Peers* peers, std::uint32_t plan_idx, const ControlLayout& layout, std::vector<std::shared_ptr<MemoryRegion>> control,
          bool mask_late);

  // All slots are free for turn 1 of the present generation, and no rank is masked. For creation, and for recovery between two
  // barriers.
  void reset();

  // Masked ranks are neither told nor awaited. May be asked by any thread; changed by the plan's thread alone.
  void mask(int rank);
  bool is_masked(int rank) const { return masked_[rank].load(std::memory_order_acquire); }
  // The ranks that are not masked, in order_, as they are reached: a range to loop over once.
  auto active() const {
    return std::views::filter(order_, [this](int rank) { return !is_masked(rank); });
  }

  // The turn that comes next; begin() makes it the present one.
  Turn next(Track track, int slot) const;
  Turn begin(Track track, int slot);

  // Release: all that this thread has written to a peer before is visible to it once it has awaited the word.
  void post_free(const Turn& turn);  // to all: for `turn`, this rank's side of the slot may be written to
  void post_enter(const Turn& turn, int peer, const CallHeader& header);
  // To all. Where nobody waits for it before the data, it costs least directly before them: both stand in one cache line.
  void post_enter(const Turn& turn, const CallHeader& header);
  void post_data(const Turn& turn);  // to all
  void post_done(const Turn& turn, int peer);

  // Acquire: pairs with the post of the same name. Waits until the deadline; false if the peer has been masked instead.
  bool await_free(const Turn& turn, int peer, Phase phase, const Deadline& deadline);
  // Also checks that the peer makes the same call.
  bool await_enter(const Turn& turn, int peer, Phase phase, const CallHeader& mine, const Deadline& deadline);
  bool await_done(const Turn& turn, int peer, Phase phase, const Deadline& deadline);
  // For all peers, in the order in which their data arrive; checks as await_enter, before the data are there.
  void await_all_data(const Turn& turn, Phase phase, const CallHeader& mine, const Deadline& deadline,
                      const std::function<void(int peer)>& arrived);

  // Whether await_all_data would not wait.
  bool all_data_arrived(const Turn& turn) const { return first_missing(turn) < 0; }
  // A rank whose data have not arrived, or -1.
  int first_missing(const Turn& turn) const;

  // What the peer said when it entered the turn; valid after await_enter or await_all_data.
  int in_place_slot(const Turn& turn, int peer) const;

 private:
  using Word = std::uint64_t PeerLine::*;

  PeerLine& line(int owner, int writer, const Turn& turn) const;
  void post(const Turn& turn, int peer, Word word);
  void post_to_all(const Turn& turn, Word word);
  std::uint64_t load(const Turn& turn, int peer, Word word) const;
  bool await(const Turn& turn, int peer, Word word, Phase phase, const Deadline& deadline);
  // Waits for ready() on account of `peer`, and masks whom that is in vain for. Returns false if the peer is masked then.
  bool await_or_mask(int peer, Phase phase, const Deadline& deadline, const std::function<bool()>& ready);
  void check_not_left_behind(const Turn& turn, int peer, Word word, Phase phase);
  std::string describe(const Turn& turn, int peer, Word word) const;
  void check_header(const Turn& turn, int peer, Phase phase, const CallHeader& mine);

  Peers* peers_;
  std::uint32_t plan_idx_;
  ControlLayout layout_;
  std::vector<std::shared_ptr<MemoryRegion>> control_;
  std::array<std::array<std::uint64_t, kNumSlots>, kNumTracks> turns_{};
  bool mask_late_;
  std::vector<int> order_;  // all members, beginning behind this one, so that not all ranks turn to the same one first
  std::vector<std::atomic<bool>> masked_;
  // Scratch of await_all_data.
  std::vector<int> missing_;
  std::vector<bool> entered_;
  // Since a rank was masked last. The others may have waited for it too, so they have as much time again from then on.
  std::optional<Deadline> since_masked_;
};

}  // namespace tokenyard
