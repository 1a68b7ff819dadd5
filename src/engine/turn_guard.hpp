// Tells the other ranks when a turn ends by an error of this rank alone, so that they need not wait for their deadlines.
#pragma once

#include "transport/peers.hpp"

namespace tokenyard {

class TurnGuard {
 public:
  TurnGuard(Peers* peers, Phase phase) : peers_(peers), phase_(phase) {}
  ~TurnGuard() {
    if (!over_) peers_->spread({ErrorCode::kSystem, phase_, peers_->rank(), peers_->rank()});
  }
  TurnGuard(const TurnGuard&) = delete;
  TurnGuard& operator=(const TurnGuard&) = delete;

  // Nobody waits for this rank's part in the turn any more.
  void over() noexcept { over_ = true; }

 private:
  Peers* peers_;
  Phase phase_;
  bool over_ = false;
};

}  // namespace tokenyard
