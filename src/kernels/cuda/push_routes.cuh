// What push's kernels are given, and what its warps know about the destinations of rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/payload.hpp"
#include "kernels/cuda/routes.cuh"
#include "kernels/cuda/segments.cuh"
#include "kernels/cuda/signals.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

// Smaller tickets would be drawn more often than memory that is busy answers; of larger ones peers would hear later.
inline constexpr int kPartsPerTicket = 2;

struct PushKernel : Payload {
  std::byte* const* windows;
  int num_ranks;

  // Segments are announced to peers who want that.
  Segments segments;
  const SentBlock* sent;
  std::uint32_t row_parts;  // that are counted of each row

  // Copying out: what this rank receives goes to the lanes' outputs, its own rows directly, the others' as their segments come.
  const std::int64_t* source_offsets;
  int num_push_warps;   // of a block. In bulk: all that have a conveyor; behind them stands the one that counts and announces
  int num_push_blocks;  // that push; the others copy what has come, and these as well when they have pushed
  int pieces_of_segment;
  LineWord sent_post;  // when all has been pushed

  Handshake handshake;
  LaunchState* state;
};

__device__ inline Share share_of(const PushKernel& kernel) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  return {.idx = warp * kernel.num_push_blocks + static_cast<int>(blockIdx.x),
          .num_warps = kernel.num_push_blocks * kernel.num_push_warps,
          .next_ticket = &kernel.state->next_ticket};
}

// What there is to know about the destinations. Lane r of a warp keeps it for rank r: most groups are no larger than a warp.
class Destinations {
 public:
  __device__ Destinations(const PushKernel& kernel, int lane) : kernel_(kernel) {
    if (kernel.num_tokens == 0 || lane >= kernel.num_ranks) return;
    window_ = kernel.windows[lane];
    if (kernel.segments.words == nullptr) return;
    first_row_ = kernel.sent[lane].first_row;
    num_rows_ = static_cast<int>(kernel.sent[lane].num_rows);
  }

  // When the peers have entered; by all lanes.
  __device__ void hear_peers(int lane) {
    if (kernel_.segments.words == nullptr) return;
    wants_segments_ = lane < kernel_.num_ranks && speaks_of_segments(kernel_.handshake.signals, lane);
    counts_ = kernel_.num_ranks > kWarp || __any_sync(kAllLanes, wants_segments_);
  }
  // Whether what has been sent has to be counted.
  __device__ bool counts() const { return counts_; }

  // By all lanes of a warp.
  __device__ Sent find(bool is_sent, std::int32_t destination, std::int64_t row, int) const {
    is_sent = is_sent && row >= 0;
    const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window_), is_sent ? destination % kWarp : 0);
    Sent sent{is_sent ? reinterpret_cast<std::byte*>(window) : nullptr, row, is_sent ? destination : -1};
    if (is_sent && destination >= kWarp) sent.window = kernel_.windows[destination];
    return sent;
  }

  // What there is to be counted of what the lanes have sent; by all of them. Of lanes with parts of the same segment one counts
  // them all.
  struct Counted {
    bool is_there;
    int segment;
    std::uint32_t num_parts;
  };
  __device__ Counted counted(const Sent& sent, int lane) const {
    const bool is_sent = sent.window != nullptr;
    const int holder = is_sent ? sent.destination % kWarp : 0;
    std::int64_t first_row = __shfl_sync(kAllLanes, first_row_, holder);
    std::int64_t num_rows = __shfl_sync(kAllLanes, num_rows_, holder);
    bool is_wanted = __shfl_sync(kAllLanes, wants_segments_, holder);
    if (is_sent && sent.destination >= kWarp) {
      first_row = kernel_.sent[sent.destination].first_row;
      num_rows = kernel_.sent[sent.destination].num_rows;
      is_wanted = speaks_of_segments(kernel_.handshake.signals, sent.destination);
    }
    // After a failure rows and blocks need not fit together.
    is_wanted = is_wanted && is_sent && sent.row >= first_row && sent.row - first_row < num_rows;
    const auto segment = static_cast<int>((sent.row - first_row) / kSegmentRows);
    const std::uint64_t key =
        is_wanted ? (static_cast<std::uint64_t>(sent.destination) << 32) + static_cast<unsigned>(segment) : ~0ULL;
    const unsigned same = __match_any_sync(kAllLanes, key);
    return {is_wanted && lane == __ffs(static_cast<int>(same)) - 1, segment, static_cast<std::uint32_t>(__popc(same))};
  }

 private:
  const PushKernel& kernel_;
  std::byte* window_ = nullptr;
  std::int64_t first_row_ = 0;  // of what it is sent, there
  int num_rows_ = 0;
  bool wants_segments_ = false;
  bool counts_ = false;
};

}  // namespace tokenyard::cuda
