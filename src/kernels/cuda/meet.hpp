// A handshake without work: where a call waits for its peers, or posts, and there is nothing else to be done. If this rank has
// failed, all ranks know of it before the launch ends.
#pragma once

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"

namespace tokenyard::cuda {

struct MeetArgs {
  Handshake handshake{};
  LaunchState* state = nullptr;
};

// One block, whatever launch.num_sms says. Stream-ordered, capturable.
void meet(const MeetArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
