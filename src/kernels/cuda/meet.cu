#include "kernels/cuda/meet.hpp"

#include "base/cuda_error.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/segments.cuh"

namespace tokenyard::cuda {
namespace {

// By a warp.
__device__ void announce_all(const MeetArgs& args, std::uint64_t turn) {
  const Signals& signals = args.handshake.signals;
  ptx::fence_system();
  for (int peer = 0; peer < signals.num_ranks; ++peer) {
    if (!speaks_of_segments(signals, peer)) continue;
    const auto num_all = static_cast<int>(num_segments(args.sent[peer].num_rows));
    for (int segment = static_cast<int>(threadIdx.x); segment < num_all; segment += 32) {
      ptx::store_relaxed_system(args.segments.words[peer] + word_idx(args.segments, signals.rank, segment), turn);
    }
  }
}

__global__ void meet_peers(const __grid_constant__ MeetArgs args) {
  const CallTurn call_turn = load_turn(args.handshake);
  if (args.segments.words != nullptr && call_turn.may_work()) announce_all(args, call_turn.turn);
  __syncwarp();
  post_entry(args.handshake, call_turn);
  const bool is_well = await_entry(args.handshake, call_turn);
  leave_kernel(args.handshake, call_turn, is_well, args.state);
}

const RegisteredKernels kKernels{address_of(meet_peers)};

}  // namespace

void meet(const MeetArgs& args, const Launch& launch) {
  meet_peers<<<1, 32, 0, launch.stream>>>(args);
  check_cuda(cudaGetLastError(), "meet");
}

}  // namespace tokenyard::cuda
