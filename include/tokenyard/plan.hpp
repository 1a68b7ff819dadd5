// Dispatch and combine: the two verbs of expert parallelism.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "tokenyard/routing.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// Sizes of a dispatch's result on this rank, known before its rows arrive.
struct RecvSizes {
  std::int64_t num_recv_rows = 0;      // N: one per (token, this rank)
  std::int64_t num_expanded_rows = 0;  // N': rows of the expert layout, padding included; N for the compact one. A bound in
                                       // DispatchArgs::allocate where kExpertContiguous may drop rows; exact in the result
  std::int64_t num_tensor_rows = 0;  // rows of each output tensor: N or N' under kGrow; num_local_experts * expert_capacity for
                                     // kExpertPadded; under kDrop what can never be exceeded, PlanSizes::recv_capacity for
                                     // kCompact, else recv_capacity * top_k + num_local_experts * (expert_alignment - 1)
  int num_local_experts = 0;
};

struct DispatchArgs {
  // One [num_tokens, num_elements] view per lane of the shape. Rows of lane 0 must be dense; rows may stand apart, and
  // further lanes may have any strides.
  std::span<const ConstTensorView> lanes;

  // Exactly one of the two: top-k ids, or the Routing of an earlier dispatch (a cached dispatch, which sends the rows of other
  // tensors the same way).
  ConstTensorView topk_idx;  // i32 or i64 [num_tokens, top_k], any strides; -1 entries are skipped, duplicates are kept
  const Routing* routing = nullptr;

  ConstTensorView topk_weights;  // f32 [num_tokens, top_k], any strides; empty: none travel. Not with `routing`

  int slot = -1;  // 0 or 1, equal on all ranks; -1 alternates

  // Where the rows shall go: one dense tensor per lane, of RecvSizes::num_tensor_rows rows or more (kCompact,
  // kExpertContiguous), or [L, expert_capacity, num_elements]. Empty: they stay in the slot (zero copy) until released.
  // Under kGrow too few rows can only be noticed when the sizes are known: that Error(kInvalidArgument) comes after the turn,
  // which the others complete; the call must then not be repeated.
  std::span<const TensorView> outputs;
  // The same for a caller who wants to know the size first: called once the sizes are known, fills one view per lane.
  std::function<void(const RecvSizes& sizes, std::span<TensorView> outputs)> allocate;

  std::optional<std::chrono::milliseconds> timeout;  // of each wait; unset: the group's
};

// A dispatch's result on this rank. Move-only. While it is live and the rows are in the slot, no rank writes there.
class Received {
 public:
  Received();
  ~Received();  // releases, without blocking
  Received(Received&&) noexcept;
  Received& operator=(Received&&) noexcept;

  // Rows of lane i: [N, num_elements], [N', num_elements] or [L, expert_capacity, num_elements]; under kDrop the first
  // dimension is the capacity. Rows that stand for nothing are unspecified, except that alignment gaps of
  // kExpertContiguous are zero. The received rows may be overwritten (by expert outputs, say) until they are released.
  TensorView lane(int lane_idx) const;

  // kCompact, results in the slot: the slot's own memory as rows of the combine type, [N, combine.num_elements]. Expert
  // outputs written here and passed to combine are read by their sources in place. Overlaps the lanes. Error(kUnsupported) for
  // other layouts.
  TensorView combine_buffer() const;

  const RecvSizes& sizes() const;
  const Routing& routing() const;
  int slot() const;
  bool live() const noexcept;

  // Lets the ranks write into the slot again. Idempotent, never blocks; views of the slot are dangling from here on.
  void release() noexcept;

  class Impl;
  explicit Received(std::unique_ptr<Impl> impl);

 private:
  const Impl& get() const;
  std::unique_ptr<Impl> impl_;
};

struct CombineArgs {
  const Routing* routing = nullptr;

  // The experts' outputs in the layout that dispatch gave: [N, row], [N', row] or [L, expert_capacity, row]; dense.
  ConstTensorView rows;

  // First meaning of weights: factors on the rows. f32 [N], [N'] or [L, expert_capacity]: each row is multiplied before it is
  // added. `use_routing_weights` takes the weights that travelled with dispatch instead (expert layouts).
  ConstTensorView factors;
  bool use_routing_weights = false;

  // Second meaning: a payload of its own, carried home and returned per (token, k), not multiplied with anything.
  // f32 [N, top_k] for the compact layout, [N'] or [L, expert_capacity] for expert layouts.
  ConstTensorView carried_weights;
  TensorView returned_weights;  // f32 [num_tokens, top_k]; 0 for ids of -1 and for dropped rows

  std::array<ConstTensorView, 2> biases;  // [num_tokens, row] each; added last, in this order

  TensorView output;  // [num_tokens, row], dense rows
  int slot = -1;      // as for dispatch
  std::optional<std::chrono::milliseconds> timeout;
};

// Made by Group::plan(). Copies share the plan. One thread at a time; calls come in the same order on all ranks. On CPU ranks
// every call blocks until its results are there; a failure on any rank ends it with an Error on all: kTimeout, kPeerLost,
// kDisagreement, or kSystem where a rank ran out of memory or descriptors.
class Plan {
 public:
  const Shape& shape() const noexcept;
  const PlanSizes& sizes() const noexcept;
  int num_local_experts() const noexcept;  // of this rank

  // Collective, blocking. Bad input is an Error(kInvalidArgument) before anything is sent: the call may then be repeated.
  // A third live result is an Error(kInvalidArgument). Received rows stand in (source rank, token) order.
  Received dispatch(const DispatchArgs& args) const;

  // Collective, blocking. output[t] = sum over the ranks that token t visited, in rank order, of that rank's contribution, plus
  // biases[0] plus biases[1]; computed in float32 (float64 for float64), rounded once at the end. A contribution is the row
  // itself (compact), or the sum of the token's rows on that rank in top-k order (expert layouts), each multiplied by its
  // factor first; it is computed in float32 and rounded to the combine type once. NaNs come out as the positive one with all
  // mantissa bits set. Tokens that visited no rank get the biases alone.
  void combine(const CombineArgs& args) const;

  // Collective: replaces the placement; every rank must pass the same table, with no more experts on any rank than the plan
  // was made for. Routings made before it still combine, but a cached dispatch with one is Error(kStale).
  void place(const PlacementTable& placement) const;

  class Impl;
  explicit Plan(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tokenyard
