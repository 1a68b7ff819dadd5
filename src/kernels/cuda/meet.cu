#include "kernels/cuda/meet.hpp"

#include "base/cuda_error.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/signals.cuh"

namespace tokenyard::cuda {
namespace {

__global__ void meet_peers(const __grid_constant__ MeetArgs args) {
  const CallTurn call_turn = load_turn(args.handshake);
  const bool has_posted = post_entry_by_warp(args.handshake, call_turn, static_cast<int>(threadIdx.x));
  const bool has_entered = await_entry(args.handshake, call_turn);
  const bool is_well = __all_sync(0xffffffff, has_posted && has_entered) != 0;
  if (threadIdx.x == 0 && !is_well) tell_all(args.handshake.signals);
  leave_kernel(args.handshake, call_turn, is_well, args.state);
}

const RegisteredKernels kKernels{address_of(meet_peers)};

}  // namespace

void meet(const MeetArgs& args, const Launch& launch) {
  meet_peers<<<1, 32, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "meet");
}

}  // namespace tokenyard::cuda
