// Where everything lies in a plan's windows. The one table that the engine, the kernels, the size hints and the docs read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout/placement.hpp"
#include "layout/signal_word.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {

// Throws Error(kInvalidArgument) for a shape that cannot be.
void check_shape(const Shape& shape, int num_ranks);

// Numbers that follow from the shape and turn up everywhere.
struct PlanDimensions {
  int num_ranks;
  int top_k;
  int max_fan_out;        // ranks that a token can visit: min(top_k, num_ranks)
  int max_local_experts;  // of any rank
  std::int64_t max_tokens;
  std::int64_t worst_recv_rows;      // num_ranks * max_tokens
  std::int64_t first_recv_capacity;  // rows that a slot holds at first
};
PlanDimensions plan_dimensions(const Shape& shape, int num_ranks, const Placement& placement);

// Rows of an expert's group with its gap (kExpertContiguous). Most experts of a small batch get no rows, and a division takes
// longer than all else that is done for an expert.
constexpr std::int64_t aligned_rows(std::int64_t num_rows, int alignment) {
  return num_rows == 0 || alignment == 1 ? num_rows : (num_rows + alignment - 1) / alignment * alignment;
}

// Throws Error(kInvalidArgument) if the rows of an expert layout could not be addressed.
void check_expanded_bytes(const Shape& shape, const PlanDimensions& dimensions);

// Whether combine can add rows of this type.
bool is_summable(DataType dtype);

// The lane that combine carries, or a lane without elements for plans that only dispatch.
Lane combine_lane(const Shape& shape);

// The control window: one per plan. Counts are exchanged in throughput mode alone.
struct ControlLayout {
  std::array<std::array<std::size_t, kNumSlots>, kNumTracks> lines;  // PeerLine [num_ranks], by writer
  std::array<std::size_t, kNumSlots> rank_counts;  // i32 [num_ranks, num_ranks]: row i, written by rank i, says how many rows
                                                   // it sends to each rank
  std::array<std::size_t, kNumSlots>
      expert_counts;  // i32 [num_ranks, max_local_experts]: rows of rank i for this rank's experts
  // u64 [num_ranks, segments of max_tokens rows], by writer: the signal word of the turn in which a segment's rows have come.
  std::array<std::array<std::size_t, kNumSlots>, kNumTracks> segments;
  std::size_t num_bytes;
};

// A dispatch window: one per slot. Rows of all arrays are received rows, in (source rank, token) order; in latency mode with
// gaps.
struct DispatchLayout {
  std::array<std::size_t, kMaxLanes> lanes;  // [capacity, row_bytes]
  std::size_t topk_idx;                      // i32 [capacity, top_k]
  std::size_t topk_weights;                  // f32 [capacity, top_k]
  std::size_t source_token;                  // i32 [capacity]
  std::size_t ordinal;                       // i32 [capacity]: which of its token's destinations this rank is
  // Latency mode, where `capacity` counts places: place source * max_tokens + token belongs to that token alone.
  std::size_t arrivals;  // u64 [num_ranks, arrival_words]: per source a bit per token, set where the place holds a row
  std::size_t num_bytes;
};

// A combine window: one per slot. The places to which contributions return.
struct CombineLayout {
  std::size_t rows;           // [places, returned_row_bytes], see ReturnPlaces
  std::size_t weights;        // f32 [weight rows, top_k]
  std::size_t given_weights;  // f32 [num_ranks, max_tokens, top_k]: latency mode, what the tokens' homes give at combine
  std::size_t num_bytes;
};

// Where contributions come home to. Ranks that fail together may share the memory that they write to: a place per ordinal of a
// token's destinations is enough then. In latency mode a rank that is masked may still write for a while, so every rank has
// places of its own.
struct ReturnPlaces {
  bool by_rank;
  std::int64_t num_ranks;
  std::int64_t max_tokens;
  std::int64_t max_fan_out;

  std::int64_t num_places() const { return max_tokens * (by_rank ? num_ranks : max_fan_out); }
  std::int64_t num_weight_rows() const { return max_tokens * (by_rank ? num_ranks : 1); }

  // Of what `rank`, the destination number `ordinal` of `token`, sends.
  std::int64_t place(std::int64_t token, std::int64_t ordinal, std::int64_t rank) const {
    return by_rank ? rank * max_tokens + token : token * max_fan_out + ordinal;
  }
  std::int64_t weight_row(std::int64_t token, std::int64_t rank) const { return by_rank ? rank * max_tokens + token : token; }
};
ReturnPlaces return_places(const Shape& shape, const PlanDimensions& dimensions);

// Words of a source's arrival bits.
constexpr std::size_t arrival_words(std::int64_t max_tokens) { return (static_cast<std::size_t>(max_tokens) + 63) / 64; }

// Bytes of a contribution on its way home: a row of combine's type, or FP8 values and behind them their float32 scales.
std::size_t returned_row_bytes(const Shape& shape);

ControlLayout control_layout(const Shape& shape, const PlanDimensions& dimensions, std::vector<Region>* regions = nullptr);
DispatchLayout dispatch_layout(const Shape& shape, const PlanDimensions& dimensions, std::int64_t recv_capacity,
                               std::vector<Region>* regions = nullptr);
CombineLayout combine_layout(const Shape& shape, const PlanDimensions& dimensions, std::vector<Region>* regions = nullptr);

}  // namespace tokenyard
