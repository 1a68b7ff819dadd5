// Calls under way: which turn of which slot they are, and what the second half needs of the first.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/routing_data.hpp"
#include "layout/signal_word.hpp"
#include "tokenyard/plan.hpp"

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
  int in_place_slot = -1;           // combine: the dispatch slot in which this rank's contributions can be read, or -1
  bool with_weights = false;        // weights travel with the rows
  bool with_given_weights = false;  // combine: weights came before the rows
  bool with_segments = false;       // on GPUs, as the next: see GpuCall
  bool carries_rows = false;
  std::uint64_t routing_id = 0;
  std::uint64_t placement = 0;
};

// A dispatch between its halves.
struct DispatchCall {
  Turn turn;
  CallHeader header;
  std::chrono::milliseconds timeout;
  std::shared_ptr<Routing::Data> made;  // null in a cached dispatch
  std::shared_ptr<const Routing::Data> routing;
  bool in_slot;  // the result stays with the plan until it is released
  std::function<void(const RecvSizes&, std::span<TensorView>)> allocate;
  std::vector<TensorView> outputs;
  // What the caller's callback or outputs did wrong. The others count on this rank, so it must wait until the turn is over.
  std::exception_ptr output_error;
  Execution execution;
  bool is_copied_out = false;  // the rows go to `outputs` without the second half's doing
};

// A combine between its halves.
struct CombineCall {
  Turn turn;
  CallHeader header;
  std::chrono::milliseconds timeout;
  std::shared_ptr<const Routing::Data> routing;
  CombineArgs args;  // its routing pointer is not used: it may dangle
};

}  // namespace tokenyard
