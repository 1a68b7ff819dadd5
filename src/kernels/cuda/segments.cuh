// The device side of segments.hpp: counting what has been sent, and waiting for what is to come.
#pragma once

#include <cstdint>

#include "kernels/cuda/segments.hpp"
#include "kernels/cuda/signals.cuh"
#include "layout/pack_order.hpp"
#include "layout/segment.hpp"

namespace tokenyard::cuda {

// Sender: how many parts a segment has of the `num_rows` rows that go to a peer, each of which is sent in `row_parts`.
__device__ inline std::uint32_t parts_of_segment(int segment, std::int64_t num_rows, std::uint32_t row_parts) {
  return static_cast<std::uint32_t>(min(kSegmentRows, num_rows - segment * kSegmentRows)) * row_parts;
}

// Sender: counts the parts that are there, each behind a fence_device(). Zero again when the segment has been announced.
__device__ inline std::uint32_t* counter_of(const Segments& segments, int peer, int segment) {
  return segments.num_done + static_cast<std::int64_t>(peer) * segments.max_segments + segment;
}

// Whether the header of `peer`, whose `enter` has come, speaks of segments.
__device__ inline bool speaks_of_segments(const Signals& signals, int peer) {
  if (peer == signals.rank || signals.lines[peer] == nullptr) return false;
  return with_segments(call_of(signals, peer));
}

// Among a receiver's words, that of a segment of what `source` sends.
__device__ inline std::int64_t word_idx(const Segments& segments, int source, int segment) {
  return static_cast<std::int64_t>(source) * segments.max_segments + segment;
}

// Numbers the pieces of all segments of all sources: the first segment of every source, then the second of every source, and so
// on, as they come. A source with fewer segments than others has pieces without rows.
struct SegmentPieces {
  int num_sources;
  int first_source;
  int pieces_of_segment;  // a power of two

  struct Piece {
    int source;
    int segment;
    std::int64_t first_row;  // of the source's
    std::int64_t num_rows;   // before it is compared with how many there are
  };

  __device__ Piece at(std::uint32_t idx) const {
    const std::uint32_t whole = idx / static_cast<std::uint32_t>(pieces_of_segment);
    const std::uint32_t within = idx % static_cast<std::uint32_t>(pieces_of_segment);
    const auto segment = static_cast<int>(whole / static_cast<std::uint32_t>(num_sources));
    int source = static_cast<int>(whole % static_cast<std::uint32_t>(num_sources)) + first_source;
    if (source >= num_sources) source -= num_sources;
    const std::int64_t num_rows = kSegmentRows / pieces_of_segment;
    return {source, segment, segment * kSegmentRows + within * num_rows, num_rows};
  }

  __device__ std::uint32_t num_pieces(std::int64_t most_rows) const {
    return static_cast<std::uint32_t>((most_rows + kSegmentRows - 1) / kSegmentRows) *
           static_cast<std::uint32_t>(num_sources * pieces_of_segment);
  }
};

// The pieces in the order in which `rank` takes them: ranks begin with different sources, each with the one behind itself.
__device__ inline SegmentPieces pieces_of_sources(int num_ranks, int rank, int pieces_of_segment) {
  return {.num_sources = num_ranks, .first_source = peer_at(rank, 1, num_ranks), .pieces_of_segment = pieces_of_segment};
}

// The most rows of any source, by all lanes of a warp.
__device__ inline std::int64_t most_rows_of_a_source(const std::int64_t* source_offsets, int num_sources, int lane) {
  std::int64_t most = 0;
#pragma unroll 1
  for (int source = lane; source < num_sources; source += 32) {
    most = max(most, source_offsets[source + 1] - source_offsets[source]);
  }
  for (int distance = 16; distance > 0; distance /= 2) most = max(most, __shfl_xor_sync(0xffffffff, most, distance));
  return most;
}

}  // namespace tokenyard::cuda
