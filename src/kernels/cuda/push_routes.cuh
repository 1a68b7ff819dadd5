// What push's kernels are given, and which row goes where: the warps that push draw tickets for tokens and look up their
// destinations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/segments.cuh"
#include "kernels/cuda/signals.hpp"
#include "layout/plan_layout.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffff;

// Parts per ticket; where segments are announced, which is done once per ticket, more.
inline constexpr int kPartsPerTicket = 2;
inline constexpr int kPartsPerAnnouncedTicket = 4;

// Tokens whose small rows travel together, at most.
inline constexpr int kMaxGroupTokens = 8;

// How a lane of the payload travels.
enum class Way : std::uint8_t {
  kBulk,        // in bulk, cut into parts
  kGroup,       // 16 bytes at a time, many tokens together: rows too short for a bulk copy each
  kByThreads,   // 16 bytes at a time
  kByElements,  // one by one: they stand apart, or not at multiples of 16 bytes
};

struct SourceLane {
  const std::byte* rows;
  std::int64_t row_stride;  // bytes
  std::int64_t element_stride;
  std::int64_t num_elements;
  int row_bytes;
  int element_bytes;
  std::size_t target;  // offset in the window
  std::byte* output;   // where rows that this rank receives shall go in the end; null: they stay in the window
  Way way;
  int first_part;  // kBulk: the number of its first part among those of all such lanes
  int part_bytes;  // of each but its last
};

struct PushKernel {
  SourceLane lanes[kMaxLanes];
  int num_lanes;
  unsigned num_parts;  // of a token; of all tokens, fewer than 2^32
  int stage_bytes;
  bool has_plain_part;  // something travels token by token and not in bulk
  bool has_groups;      // some lane goes by kGroup

  std::byte* const* windows;
  int rank;
  int num_ranks;
  std::int64_t num_tokens;
  std::int64_t first_token;  // ranks begin at different ones, see Routes
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;

  int top_k;
  const std::int32_t* ordinal;
  const std::int32_t* local_idx;
  const std::byte* topk_weights;
  std::int64_t weights_token_stride;  // bytes
  std::int64_t weights_k_stride;
  std::size_t topk_idx_target;
  std::size_t topk_weights_target;
  std::size_t source_token_target;
  std::size_t ordinal_target;

  // Segments are announced to peers who want that.
  Segments segments;
  const SentBlock* sent;
  std::uint32_t row_parts;  // that are counted of each row

  // Copying out: what this rank receives goes to the lanes' outputs, its own rows directly, the others' as their segments come.
  bool copies_out;
  std::int64_t num_output_rows;
  const std::int64_t* source_offsets;
  int num_push_warps;   // of a block. In bulk: all that have a conveyor; behind them stands the one that counts and announces
  int num_push_blocks;  // that push; the others copy what has come, and these as well when they have pushed
  int pieces_of_segment;
  LineWord sent_post;  // when all has been pushed

  Handshake handshake;
  LaunchState* state;
};

// A warp's place among those that share the work. Each has two tickets that need not be drawn.
struct Share {
  int idx;  // of this warp
  int num_warps;
  std::uint32_t* next_ticket;  // counts the tickets that have been drawn
};

__device__ inline Share share_of(const PushKernel& kernel) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  return {.idx = warp * kernel.num_push_blocks + static_cast<int>(blockIdx.x),
          .num_warps = kernel.num_push_blocks * kernel.num_push_warps,
          .next_ticket = &kernel.state->next_ticket};
}

// What each lane of a warp sends: a row of a destination.
struct Sent {
  std::byte* window = nullptr;  // null: nothing
  std::int64_t row = -1;
  std::int32_t destination = -1;
};

// What there is to know about the destinations. Lane r of a warp keeps it for rank r: most groups are no larger than a warp.
class Destinations {
 public:
  __device__ Destinations(const PushKernel& kernel, int lane) {
    if (kernel.num_tokens == 0 || lane >= kernel.num_ranks) return;
    window_ = kernel.windows[lane];
    if (kernel.segments.words == nullptr) return;
    first_row_ = kernel.sent[lane].first_row;
    num_rows_ = static_cast<int>(kernel.sent[lane].num_rows);
  }

  // When the peers have entered; by all lanes.
  __device__ void hear_peers(const PushKernel& kernel, int lane) {
    if (kernel.segments.words == nullptr) return;
    wants_segments_ = lane < kernel.num_ranks && speaks_of_segments(kernel.handshake.signals, lane);
    counts_ = kernel.num_ranks > kWarp || __any_sync(kAllLanes, wants_segments_);
  }
  // Whether what has been sent has to be counted.
  __device__ bool counts() const { return counts_; }

  // By all lanes of a warp.
  __device__ Sent find(const PushKernel& kernel, bool is_sent, std::int32_t destination, std::int64_t row) const {
    is_sent = is_sent && row >= 0;
    const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(window_), is_sent ? destination % kWarp : 0);
    Sent sent{is_sent ? reinterpret_cast<std::byte*>(window) : nullptr, row, is_sent ? destination : -1};
    if (is_sent && destination >= kWarp) sent.window = kernel.windows[destination];
    return sent;
  }

  // What there is to be counted of what the lanes have sent; by all of them. Of lanes with parts of the same segment one counts
  // them all.
  struct Counted {
    bool is_there;
    int segment;
    std::uint32_t num_parts;
    std::uint32_t num_all_parts;  // of the segment
  };
  __device__ Counted counted(const PushKernel& kernel, const Sent& sent, int lane) const {
    const bool is_sent = sent.window != nullptr;
    const int holder = is_sent ? sent.destination % kWarp : 0;
    std::int64_t first_row = __shfl_sync(kAllLanes, first_row_, holder);
    std::int64_t num_rows = __shfl_sync(kAllLanes, num_rows_, holder);
    bool is_wanted = __shfl_sync(kAllLanes, wants_segments_, holder);
    if (is_sent && sent.destination >= kWarp) {
      first_row = kernel.sent[sent.destination].first_row;
      num_rows = kernel.sent[sent.destination].num_rows;
      is_wanted = speaks_of_segments(kernel.handshake.signals, sent.destination);
    }
    is_wanted = is_wanted && is_sent;
    const auto segment = static_cast<int>((sent.row - first_row) / kSegmentRows);
    const std::uint64_t key =
        is_wanted ? (static_cast<std::uint64_t>(sent.destination) << 32) + static_cast<unsigned>(segment) : ~0ULL;
    const unsigned same = __match_any_sync(kAllLanes, key);
    return {is_wanted && lane == __ffs(static_cast<int>(same)) - 1, segment, static_cast<std::uint32_t>(__popc(same)),
            parts_of_segment(segment, num_rows, kernel.row_parts)};
  }

 private:
  std::byte* window_ = nullptr;
  std::int64_t first_row_ = 0;  // of what it is sent, there
  int num_rows_ = 0;
  bool wants_segments_ = false;
  bool counts_ = false;
};

// Tokens whose short rows travel together: lane t * width + o has ordinal o of the group's token t.
struct TokenGroup {
  int num_tokens;  // at most
  int width;
  int token = -1;  // of the lane; -1: none
  Sent sent;
};

// Parts of a token that follow each other, and its destinations as the warp's lanes hold them: lane o that of ordinal o.
struct Route {
  std::int64_t token;
  int first_part;
  int num_parts;
  std::byte* window;  // null: nothing is sent
  std::int64_t row;
};

// Goes through the parts that a warp draws, in three steps, each of which has a ticket's time for its memory accesses: the
// ticket is drawn, the routes of its tokens are loaded, the windows looked up. Entry o of the ticket's token t lies in lane t *
// width + o.
class Routes {
 public:
  __device__ Routes(const PushKernel& kernel, const Share& share, int lane)
      : share_(share),
        first_token_(static_cast<int>(kernel.first_token)),
        num_tokens_(static_cast<int>(kernel.num_tokens)),
        lane_(lane) {
    num_parts_all_ = static_cast<unsigned>(num_tokens_) * kernel.num_parts;
    while (width_ < kernel.max_fan_out) width_ *= 2;
    parts_per_ticket_ = min(kernel.copies_out ? kPartsPerAnnouncedTicket : kPartsPerTicket, kWarp / width_);
    group_tokens_ = min(kMaxGroupTokens, kWarp / width_);
    load(kernel, static_cast<unsigned>(share.idx));
    drawn_ = static_cast<unsigned>(share.idx + share.num_warps);
  }

  // Whether the next part, if there is one, belongs to another ticket than the last.
  __device__ bool ticket_is_over() const { return num_left_ == 0; }
  // What the lanes send of the present ticket.
  __device__ const Sent& ticket() const { return sent_; }

  // False when there are no more. Tokens that go nowhere are left out.
  __device__ bool next(const PushKernel& kernel, const Destinations& destinations, Route* route) {
    for (;;) {
      if (num_left_ == 0) {
        first_ = loaded_first_;
        if (first_ >= num_parts_all_) return false;
        num_left_ = static_cast<int>(min(static_cast<unsigned>(parts_per_ticket_), num_parts_all_ - first_));
        num_taken_ = 0;
        sent_ = destinations.find(kernel, lane_ % width_ < loaded_fan_out_, loaded_destination_, loaded_row_);
        load(kernel, __shfl_sync(kAllLanes, drawn_, 0));
        draw();
        // Up to the last part that goes anywhere: its ticket has not ended before.
        const unsigned going = __ballot_sync(kAllLanes, sent_.window != nullptr);
        num_left_ = min(num_left_, (kWarp - 1 - __clz(static_cast<int>(going))) / width_ + 1);
        if (going == 0) {
          num_left_ = 0;
          continue;
        }
      }
      const int taken = num_taken_;
      const unsigned first = first_ + static_cast<unsigned>(taken);
      route->first_part = kernel.num_parts == 1 ? 0 : static_cast<int>(first % kernel.num_parts);
      route->num_parts = min(num_left_, static_cast<int>(kernel.num_parts) - route->first_part);
      num_taken_ += route->num_parts;
      num_left_ -= route->num_parts;
      const int holder = (taken * width_ + lane_) % kWarp;
      const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(sent_.window), holder);
      route->row = __shfl_sync(kAllLanes, sent_.row, holder);
      route->window = lane_ < kernel.max_fan_out ? reinterpret_cast<std::byte*>(window) : nullptr;
      if (!__any_sync(kAllLanes, route->window != nullptr)) continue;
      route->token = token_at(kernel, first);
      return true;
    }
  }

  // Groups of tokens, for rows that travel by Way::kGroup.
  __device__ int num_groups() const { return (num_tokens_ + group_tokens_ - 1) / group_tokens_; }
  __device__ TokenGroup group(const PushKernel& kernel, const Destinations& destinations, int number) const {
    TokenGroup group{.num_tokens = group_tokens_, .width = width_};
    const int idx = lane_ / width_;
    const int ordinal = lane_ % width_;
    const int position = number * group_tokens_ + idx;
    bool is_sent = false;
    std::int32_t destination = -1;
    std::int64_t row = -1;
    if (idx < group_tokens_ && position < num_tokens_) {
      group.token = rotated(kernel, position);
      if (ordinal < kernel.max_fan_out) {
        is_sent = ordinal < kernel.fan_out[group.token];
        destination = kernel.destination[static_cast<std::int64_t>(group.token) * kernel.max_fan_out + ordinal];
        row = kernel.row[static_cast<std::int64_t>(group.token) * kernel.max_fan_out + ordinal];
      }
    }
    group.sent = destinations.find(kernel, is_sent, destination, row);
    return group;
  }

 private:
  // Ranks begin at different tokens: where neighbouring tokens go to the same ranks, the sources do not all crowd there at
  // once.
  __device__ int rotated(const PushKernel& kernel, int position) const {
    const int token = position + first_token_;
    return token < num_tokens_ ? token : token - num_tokens_;
  }

  __device__ int token_at(const PushKernel& kernel, unsigned position) const {
    return rotated(kernel, static_cast<int>(kernel.num_parts == 1 ? position : position / kernel.num_parts));
  }

  __device__ void draw() {
    if (lane_ == 0) drawn_ = static_cast<unsigned>(2 * share_.num_warps) + atomicAdd(share_.next_ticket, 1U);
  }

  __device__ void load(const PushKernel& kernel, unsigned ticket) {
    loaded_first_ = ticket * static_cast<unsigned>(parts_per_ticket_);
    const int ordinal = lane_ % width_;
    const unsigned position = loaded_first_ + static_cast<unsigned>(lane_ / width_);
    loaded_fan_out_ = 0;
    if (position >= num_parts_all_ || lane_ / width_ >= parts_per_ticket_ || ordinal >= kernel.max_fan_out) return;
    const std::int64_t token = token_at(kernel, position);
    loaded_fan_out_ = kernel.fan_out[token];
    loaded_destination_ = kernel.destination[token * kernel.max_fan_out + ordinal];
    loaded_row_ = kernel.row[token * kernel.max_fan_out + ordinal];
  }

  Share share_;
  int first_token_;
  int num_tokens_;
  unsigned num_parts_all_;
  int lane_;
  int width_ = 1;  // a power of two
  int parts_per_ticket_;
  int group_tokens_;

  unsigned first_ = 0;  // the present ticket
  int num_taken_ = 0;
  int num_left_ = 0;
  Sent sent_;

  unsigned loaded_first_ = 0;  // the next
  std::int32_t loaded_fan_out_ = 0;
  std::int32_t loaded_destination_ = -1;
  std::int64_t loaded_row_ = -1;

  unsigned drawn_ = 0;  // the one after it; in lane 0
};

}  // namespace tokenyard::cuda
