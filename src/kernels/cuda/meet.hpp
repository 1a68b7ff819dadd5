// A handshake without work: where a call waits for its peers and there is nothing else to be done.
#pragma once

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/segments.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

struct MeetArgs {
  Handshake handshake{};
  // With words: what was sent before in the stream is announced, all segments at once, to peers whose headers ask for that.
  // They must have entered, and not have been told of the data before.
  Segments segments{};
  const SentBlock* sent = nullptr;  // [R], with `segments`
  LaunchState* state = nullptr;
};

// One block, whatever launch.num_sms says. Stream-ordered, capturable.
void meet(const MeetArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
