// Which row goes where: warps draw tickets for parts of tokens and look up their destinations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/payload.hpp"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {

// Tokens whose small rows travel together, at most.
inline constexpr int kMaxGroupTokens = 8;
// Instead of a round: what is sent in any.
inline constexpr int kAllRounds = -1;

// A warp's place among those that share the work.
struct Share {
  int idx;                     // of this warp
  int num_warps;               // each begins with two tickets that need not be drawn
  std::uint32_t* next_ticket;  // counts the tickets that have been drawn
  // Of the parts of all tokens in all rounds.
  unsigned begin_part = 0;
  unsigned end_part = ~0U;  // or their number
};

// What each lane of a warp sends: a row of a destination.
struct Sent {
  std::byte* window = nullptr;  // null: nothing
  std::int64_t row = -1;
  std::int32_t destination = -1;
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
//
// `destinations.find(is_sent, destination, row, round)` says for each lane what it sends in this round where the Routing has
// this destination and row.
class Routes {
 public:
  __device__ Routes(const Payload& payload, const Share& share, int lane)
      : first_token_(static_cast<int>(payload.first_token)),
        num_tokens_(static_cast<int>(payload.num_tokens)),
        num_rounds_(payload.num_rounds),
        lane_(lane) {
    while (width_ < payload.max_fan_out) width_ *= 2;
    parts_per_ticket_ = min(payload.parts_per_ticket, kWarp / width_);
    group_tokens_ = min(kMaxGroupTokens, kWarp / width_);
    take_part(payload, share);
    load(payload, static_cast<unsigned>(share.idx));
    drawn_ = static_cast<unsigned>(share.idx + share.num_warps);
  }

  // When there are no more: those that other warps share, beside whom this one draws all its tickets.
  __device__ void join(const Payload& payload, const Share& share) {
    take_part(payload, share);
    draw();
    load(payload, __shfl_sync(kAllLanes, drawn_, 0));
    draw();
  }

  // Whether the next part, if there is one, belongs to another ticket than the last.
  __device__ bool ticket_is_over() const { return num_left_ == 0; }
  // What the lanes send of the present ticket.
  __device__ const Sent& ticket() const { return sent_; }

  // False when there are no more. Tokens that go nowhere are left out.
  template <class Destinations>
  __device__ bool next(const Payload& payload, const Destinations& destinations, Route* route) {
    for (;;) {
      if (num_left_ == 0) {
        first_ = loaded_first_;
        if (first_ >= end_part_) return false;
        num_left_ = static_cast<int>(min(static_cast<unsigned>(parts_per_ticket_), end_part_ - first_));
        num_taken_ = 0;
        sent_ = destinations.find(lane_ % width_ < loaded_fan_out_, loaded_destination_, loaded_row_,
                                  round_at(payload, first_ + static_cast<unsigned>(lane_ / width_)));
        load(payload, __shfl_sync(kAllLanes, drawn_, 0));
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
      route->first_part = payload.num_parts == 1 ? 0 : static_cast<int>(first % payload.num_parts);
      route->num_parts = min(num_left_, static_cast<int>(payload.num_parts) - route->first_part);
      num_taken_ += route->num_parts;
      num_left_ -= route->num_parts;
      const int holder = (taken * width_ + lane_) % kWarp;
      const auto window = __shfl_sync(kAllLanes, reinterpret_cast<std::uintptr_t>(sent_.window), holder);
      route->row = __shfl_sync(kAllLanes, sent_.row, holder);
      route->window = lane_ < payload.max_fan_out ? reinterpret_cast<std::byte*>(window) : nullptr;
      if (!__any_sync(kAllLanes, route->window != nullptr)) continue;
      route->token = token_at(payload, first);
      return true;
    }
  }

  // Groups of tokens, for rows that travel by Way::kGroup.
  __device__ int group_tokens() const { return group_tokens_; }
  __device__ int num_groups() const { return (num_tokens_ + group_tokens_ - 1) / group_tokens_; }
  template <class Destinations>
  __device__ TokenGroup group(const Payload& payload, const Destinations& destinations, int number) const {
    TokenGroup group{.num_tokens = group_tokens_, .width = width_};
    const int idx = lane_ / width_;
    const int ordinal = lane_ % width_;
    const int position = number * group_tokens_ + idx;
    bool is_sent = false;
    std::int32_t destination = -1;
    std::int64_t row = -1;
    if (idx < group_tokens_ && position < num_tokens_) {
      group.token = rotated(position);
      if (ordinal < payload.max_fan_out) {
        is_sent = ordinal < payload.fan_out[group.token];
        destination = payload.destination[static_cast<std::int64_t>(group.token) * payload.max_fan_out + ordinal];
        row = payload.row[static_cast<std::int64_t>(group.token) * payload.max_fan_out + ordinal];
      }
    }
    group.sent = destinations.find(is_sent, destination, row, kAllRounds);
    return group;
  }

 private:
  // Ranks begin at different tokens: where neighbouring tokens go to the same ranks, the sources do not all crowd there at
  // once.
  __device__ int rotated(int position) const {
    const int token = position + first_token_;
    return token < num_tokens_ ? token : token - num_tokens_;
  }

  // In the order in which tokens come.
  __device__ int idx_at(const Payload& payload, unsigned position) const {
    return static_cast<int>(payload.num_parts == 1 ? position : position / payload.num_parts);
  }
  __device__ int round_at(const Payload& payload, unsigned position) const {
    return num_rounds_ == 1 ? 0 : idx_at(payload, position) / num_tokens_;
  }
  __device__ int token_at(const Payload& payload, unsigned position) const {
    const int idx = idx_at(payload, position);
    return rotated(num_rounds_ == 1 ? idx : idx % num_tokens_);
  }

  __device__ void take_part(const Payload& payload, const Share& share) {
    share_ = share;
    const unsigned num_parts = static_cast<unsigned>(num_tokens_) * payload.num_parts * static_cast<unsigned>(num_rounds_);
    end_part_ = min(share.end_part, num_parts);
  }

  __device__ void draw() {
    if (lane_ == 0) drawn_ = static_cast<unsigned>(2 * share_.num_warps) + atomicAdd(share_.next_ticket, 1U);
  }

  __device__ void load(const Payload& payload, unsigned ticket) {
    loaded_first_ = share_.begin_part + ticket * static_cast<unsigned>(parts_per_ticket_);
    const int ordinal = lane_ % width_;
    const unsigned position = loaded_first_ + static_cast<unsigned>(lane_ / width_);
    loaded_fan_out_ = 0;
    if (position >= end_part_ || lane_ / width_ >= parts_per_ticket_ || ordinal >= payload.max_fan_out) return;
    const std::int64_t token = token_at(payload, position);
    loaded_fan_out_ = payload.fan_out[token];
    loaded_destination_ = payload.destination[token * payload.max_fan_out + ordinal];
    loaded_row_ = payload.row[token * payload.max_fan_out + ordinal];
  }

  Share share_;
  int first_token_;
  int num_tokens_;
  int num_rounds_;
  unsigned end_part_;
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
