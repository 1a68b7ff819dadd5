// How a step is launched: what all steps have in common.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"

struct CUstream_st;

namespace tokenyard::cuda {

struct Launch {
  CUstream_st* stream = nullptr;  // of the current device
  int num_sms = 0;                // blocks; at most one stands on a multiprocessor. At least 1
  bool plain_copies = false;      // 16-byte loads and stores instead of bulk copies, as before Hopper
};

inline bool uses_bulk_copies(const Launch& launch) { return !launch.plain_copies && current_device().has_bulk_copies; }

// Device memory through which the blocks of a launch agree. Zero at first, and again after every launch; launches that share
// one must not overlap.
struct LaunchState {
  std::uint32_t num_blocks_done = 0;
  std::uint32_t next_ticket = 0;
  std::uint32_t next_group = 0;
  std::uint32_t next_piece = 0;  // of what other warps work on at the same time
  std::uint32_t next_piece_group = 0;
  std::uint32_t num_sent = 0;  // blocks, or warps, that have sent all they had to send
};

}  // namespace tokenyard::cuda
