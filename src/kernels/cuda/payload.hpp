// What a dispatch moves, and how each part of it travels: the same where rows go straight to their destinations and where they
// are packed first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

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
  std::byte* output;   // for rows that do not go to a window, as place_of() says
  Way way;
  int first_part;  // kBulk: the number of its first part among those of all such lanes
  int part_bytes;  // of each but its last
};

// Offsets in a window.
struct IdTargets {
  std::size_t topk_idx;
  std::size_t topk_weights;
  std::size_t source_token;
  std::size_t ordinal;
};

struct Payload {
  SourceLane lanes[kMaxLanes];
  int num_lanes;
  // Of a token. Of all tokens in all rounds, fewer than 2^31 less what warps may draw in vain: a terabyte of rows.
  unsigned num_parts;
  int stage_bytes;
  bool has_plain_part;  // something travels token by token and not in bulk
  bool has_groups;      // some lane goes by kGroup

  std::int64_t num_tokens;
  std::int64_t first_token;  // ranks may begin at different ones, see Routes
  int num_rounds;            // how often all tokens come, each time for other destinations; if not once, first_token is 0
  int rank;
  int parts_per_ticket;  // at most
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
  IdTargets ids;
  IdTargets output_ids;  // in the memory whose rows go to the lanes' outputs

  bool copies_out;  // some rows go to the lanes' outputs
  std::int64_t num_output_rows;
};

// Whether rows can be moved 16 bytes at a time.
bool goes_by_vectors(const ConstTensorView& lane);

// How each lane travels, which is said only when all are known. A payload without parts travels by threads alone.
void choose_ways(Payload* payload, bool in_bulk);

inline IdTargets id_targets(const DispatchLayout& layout) {
  return {layout.topk_idx, layout.topk_weights, layout.source_token, layout.ordinal};
}

// Of PushArgs or PackArgs, for memory of this layout; without outputs. Tokens begin with the first.
template <class Args>
Payload make_payload(const Args& args, const DispatchLayout& layout, bool in_bulk) {
  Payload payload{};
  for (const ConstTensorView& lane : args.lanes) {
    const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
    SourceLane& source = payload.lanes[payload.num_lanes];
    source.rows = static_cast<const std::byte*>(lane.data);
    source.row_stride = lane.strides[0] * element_bytes;
    source.element_stride = lane.strides[1] * element_bytes;
    source.num_elements = lane.shape[1];
    source.row_bytes = static_cast<int>(lane.shape[1] * element_bytes);
    source.target = layout.lanes[payload.num_lanes];
    source.element_bytes = static_cast<int>(element_bytes);
    source.way = goes_by_vectors(lane) ? Way::kByThreads : Way::kByElements;
    ++payload.num_lanes;
  }
  choose_ways(&payload, in_bulk);
  payload.num_rounds = 1;
  payload.rank = args.rank;
  payload.num_tokens = args.num_tokens;
  payload.max_fan_out = args.max_fan_out;
  payload.fan_out = args.fan_out;
  payload.destination = args.destination;
  payload.row = args.row;
  payload.top_k = args.top_k;
  payload.ordinal = args.ordinal;
  payload.has_plain_part = payload.has_plain_part || args.ordinal != nullptr;
  payload.local_idx = args.local_idx;
  if (args.topk_weights) {
    payload.topk_weights = static_cast<const std::byte*>(args.topk_weights.data);
    payload.weights_token_stride = args.topk_weights.strides[0] * static_cast<std::int64_t>(sizeof(float));
    payload.weights_k_stride = args.topk_weights.strides[1] * static_cast<std::int64_t>(sizeof(float));
  }
  payload.ids = payload.output_ids = id_targets(layout);
  return payload;
}

}  // namespace tokenyard::cuda
