// What a plan is made from, and the sizes that follow from it alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenyard/quantize.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

inline constexpr int kMaxTopK = 32;
inline constexpr int kMaxExperts = 4096;
inline constexpr int kMaxRanks = 2048;
inline constexpr int kMaxLanes = 4;
inline constexpr int kNumSlots = 2;  // live results per plan

// How rows get to their destinations.
enum class Mode : std::uint8_t {
  kThroughput,  // counts first, then rows to their final places: least memory. Training and prefill
  kLatency,     // no counts: every source owns max_tokens places at every destination. Decode
};
const char* to_string(Mode mode) noexcept;

// How received rows stand. L is the number of local experts, N the number of received rows.
enum class Layout : std::uint8_t {
  kCompact,           // [N, row]: one row per (token, destination rank), in (source rank, token) order
  kExpertContiguous,  // [N', row]: one row per (token, local expert), grouped by expert, each group aligned
  kExpertPadded,      // [L, expert_capacity, row], with a count per expert
};
const char* to_string(Layout layout) noexcept;

// What happens to rows for which a slot has no room.
enum class Overflow : std::uint8_t {
  kGrow,  // sized output: the slot grows on all ranks before the first row moves
  kDrop,  // capacity output: the last rows in (source rank, token) order are dropped and counted, shapes never change
};

// One part of a payload. All lanes of a token travel together.
struct Lane {
  DataType dtype = DataType::kBFloat16;
  std::int64_t num_elements = 0;  // per row

  // Expert layouts: the result's columns are dense instead of its rows, as grouped matrix products want their scales. The
  // strides of the result say so: (1, N') for [N', num_elements], (num_elements * C, 1, C) for [L, C, num_elements].
  bool column_major = false;

  std::size_t row_bytes() const noexcept { return static_cast<std::size_t>(num_elements) * size_of(dtype); }
  friend bool operator==(const Lane&, const Lane&) = default;
};

// Rows that become FP8 with one scale per 128 values on their way (see quantize.hpp). Lanes 0 and 1 must then be
// float8_e4m3 of the hidden size and its ceil(hidden / 128) scales; the caller gives one tensor of type `from` for the two.
struct Quantization {
  DataType from = DataType::kBFloat16;  // float32, bfloat16 or float16
  ScaleFormat format = ScaleFormat::kFloat32;
  friend bool operator==(const Quantization&, const Quantization&) = default;
};

// Where experts live: experts_of[r] lists the experts of rank r; an expert's place in that list is its local id. An expert may
// stand on several ranks (replicas); every expert must stand on at least one. Empty means contiguous: rank r holds the experts
// [r * ceil(E/R), (r+1) * ceil(E/R)), cut at E.
struct PlacementTable {
  std::vector<std::vector<std::int32_t>> experts_of{};
  friend bool operator==(const PlacementTable&, const PlacementTable&) = default;
};

struct Shape {
  int num_experts = 0;
  int top_k = 0;
  std::int64_t max_tokens = 0;  // per rank and call; actual counts may differ per rank and be zero
  // What dispatch carries. Rows of lane 0 must be a multiple of 16 bytes; further lanes (scales) may have any width.
  std::vector<Lane> lanes{};
  // What combine carries and sums: float16, bfloat16, float32 or float64. Unset: lane 0 if it is one of these; otherwise
  // the plan can dispatch only.
  std::optional<Lane> combine{};
  std::optional<Quantization> quantization{};  // set: dispatch quantises
  // Contributions travel home as FP8 with float32 scales per 128 values instead of as rows of combine's type: half the bytes of
  // bfloat16. Each value is then off by up to 2^-4 of itself or 2^-10 / 448 of its block's largest magnitude, whichever is
  // more.
  bool combine_as_float8 = false;
  Mode mode = Mode::kThroughput;
  // kLatency: a rank that misses a deadline, or is gone, is masked and skipped from then on (Plan::masked_ranks) instead of
  // ending the call with an error.
  bool mask_late_ranks = false;
  Layout layout = Layout::kCompact;
  int expert_alignment = 1;          // rows; kExpertContiguous
  std::int64_t expert_capacity = 0;  // rows per expert; kExpertPadded. Rows beyond it are always dropped
  std::int64_t recv_capacity = 0;    // rows (one per token and source) that a slot holds; 0: a size that balanced routing
                                     // never exceeds under kGrow, the worst case under kDrop and in latency mode
  Overflow overflow = Overflow::kGrow;
  PlacementTable placement{};
  int max_local_experts = 0;  // a bound that leaves room for later placements (Plan::place); 0: what `placement` needs

  friend bool operator==(const Shape&, const Shape&) = default;
};

// One named part of a plan's memory on one rank.
struct Region {
  std::string window{};  // the window that it lies in: "control", or "dispatch" or "combine", of which there is one per slot
  std::string name{};
  std::size_t offset = 0;  // bytes from the window's start
  std::size_t num_bytes = 0;
  bool metadata = false;  // bookkeeping rather than payload
};

// The sizes of a plan's memory, from the shape alone.
struct PlanSizes {
  std::int64_t recv_capacity = 0;    // rows that a slot holds at first
  std::int64_t worst_recv_rows = 0;  // rows that it can be asked to hold
  int max_local_experts = 0;
  int max_fan_out = 0;             // ranks that one token can visit
  std::vector<Region> regions{};   // windows of slots listed once; multiply by kNumSlots
  std::size_t window_bytes = 0;    // all windows of a rank, both slots
  std::size_t metadata_bytes = 0;  // the part of window_bytes that is bookkeeping
};

// Checks the shape and computes the sizes; needs no ranks and no memory. Throws Error(kInvalidArgument) with the value, the
// limit and the way out.
PlanSizes plan_sizes(const Shape& shape, int num_ranks);

}  // namespace tokenyard
