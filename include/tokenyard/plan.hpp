// Dispatch and combine: the two verbs of expert parallelism.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tokenyard/execution.hpp"
#include "tokenyard/routing.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// Sizes of a dispatch's result on this rank, known before its rows arrive. On GPUs the host does not learn them under kDrop:
// num_recv_rows and num_expanded_rows are -1 then (but kExpertPadded's num_expanded_rows is known).
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
  // further lanes may have any strides. With Shape::quantization lanes 0 and 1 are given as one tensor of its type.
  std::span<const ConstTensorView> lanes{};

  // Exactly one of the two: top-k ids, or the Routing of an earlier dispatch (a cached dispatch, which sends the rows of other
  // tensors the same way).
  ConstTensorView topk_idx{};  // i32 or i64 [num_tokens, top_k], any strides; -1 entries are skipped, duplicates are kept
  const Routing* routing = nullptr;

  ConstTensorView topk_weights{};  // f32 [num_tokens, top_k], any strides; empty: none travel. Not with `routing`

  int slot = -1;  // 0 or 1, equal on all ranks; -1 alternates

  // Where the rows shall go: one dense tensor per lane, of RecvSizes::num_tensor_rows rows or more (kCompact,
  // kExpertContiguous), or [L, expert_capacity, num_elements]. Empty: they stay in the slot (zero copy) until released.
  // Under kGrow too few rows can only be noticed when the sizes are known: that Error(kInvalidArgument) comes after the turn,
  // which the others complete; the call must then not be repeated.
  std::span<const TensorView> outputs{};
  // The same for a caller who wants to know the size first: called once the sizes are known, fills one view per lane. On GPUs
  // the kernels of peers wait by then for this rank's rows, which are sent behind it, and CUDA may wait for these kernels when
  // memory is taken from it: take memory from a pool that has enough.
  std::function<void(const RecvSizes& sizes, std::span<TensorView> outputs)> allocate{};

  std::optional<std::chrono::milliseconds> timeout{};  // of each wait; unset: the group's
  Execution execution{};                               // on GPUs
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
  // kExpertContiguous are zero. The received rows may be overwritten (by expert outputs, say) until they are released;
  // rows in the slot are then Error(kStale), as they are after Group::recover().
  TensorView lane(int lane_idx) const;

  // Results in the slot, of plans that combine (otherwise Error(kUnsupported); kStale once released): a borrowed tensor for the
  // experts' outputs, in the layout of the lanes with rows of the combine type. Writable until the result is released or
  // combined. Combine takes rows from here without a copy in between. In throughput mode the compact layout's buffer is the
  // slot's own memory, which overlaps the lanes, and its rows are read by the tokens' homes in place; all others are memory of
  // their own, taken at the slot's first use of them (on GPUs: Error(kUnsupported) while a stream is captured).
  TensorView combine_buffer() const;

  const RecvSizes& sizes() const;
  const Routing& routing() const;
  int slot() const;
  bool live() const noexcept;

  // Lets the ranks write into the slot again. Idempotent, never blocks; views of the slot are dangling from here on. On GPUs
  // it is said by the slot's next dispatch, so kernels that were enqueued before may still use the rows, if that dispatch
  // stands behind them (Execution).
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
  ConstTensorView rows{};

  // First meaning of weights: factors on the rows. f32 [N], [N'] or [L, expert_capacity]: each row is multiplied before it is
  // added. `use_routing_weights` takes the weights that travelled with dispatch instead (expert layouts).
  ConstTensorView factors{};
  bool use_routing_weights = false;
  // Latency mode: the factors come from the tokens' homes now instead of with dispatch; expert layouts. f32 [num_tokens,
  // top_k], any strides; on all ranks or none. They travel before the rows, which costs one more hop.
  ConstTensorView topk_weights{};

  // Second meaning: a payload of its own, carried home and returned per (token, k), not multiplied with anything.
  // f32 [N, top_k] for the compact layout, [N'] or [L, expert_capacity] for expert layouts.
  ConstTensorView carried_weights{};
  TensorView returned_weights;  // f32 [num_tokens, top_k]; 0 for ids of -1 and for dropped rows

  std::array<ConstTensorView, 2> biases{};  // [num_tokens, row] each; added last, in this order

  TensorView output{};  // [num_tokens, row], dense rows. In throughput mode it may lie over `rows`, but for
                        // those that copy engines carry
  int slot = -1;        // as for dispatch
  std::optional<std::chrono::milliseconds> timeout{};
  Execution execution{};  // on GPUs
};

// The first half of a split call has been made: everything that this rank sends is on its way, and nothing of the library runs
// until complete(). Move-only. What the call writes or still reads must stay valid until complete() has returned: a dispatch's
// outputs and whatever allocate refers to, a combine's rows, biases, output and returned_weights. A dispatch's lanes, ids and
// weights have been read when begin returns, and Routings are shared.
// Dropping it without complete() never blocks, but leaves the turn open: the slot stays taken, and peers will miss this rank.
//
// On GPUs both halves are enqueued in the stream that begin was given, so other work may be enqueued in between. Everything
// that the call reads must stay valid until the stream has passed it. Whether a half is done says an event: done, wait and
// on_done are Error(kUnsupported).
class Pending {
 public:
  Pending();
  ~Pending();
  Pending(Pending&&) noexcept;
  Pending& operator=(Pending&&) noexcept;

  // Whether all that this rank waits for has arrived, so that complete() will not wait; true also after a failure of the group,
  // which complete() throws if anything is missing. Never blocks. One wait it does not see: in throughput mode a combine whose
  // rows are read in place waits in complete() until the others have read them in theirs.
  bool done() const;

  // Waits until done(), but at most `timeout`; returns done(). A peer that is late here has not missed a deadline yet.
  bool wait(std::chrono::milliseconds timeout) const;

  // Calls `callback` once, from a thread of the plan, when done() or when the call's timeout has passed. It must not throw.
  // Dropped with the plan if that goes first; a callback that owns this Pending or a handle of the plan keeps the plan alive
  // until it has come.
  void on_done(std::function<void()> callback);

  class Impl;
  explicit Pending(std::shared_ptr<Impl> impl);

 protected:
  Impl& get() const;

 private:
  std::shared_ptr<Impl> impl_;
};

class PendingDispatch : public Pending {
 public:
  using Pending::Pending;
  Received complete();  // as Plan::dispatch from here on; once
};

class PendingCombine : public Pending {
 public:
  using Pending::Pending;
  void complete();  // as Plan::combine from here on; once
};

// What a rank has seen of one peer, in all calls of a plan in latency mode.
struct PeerCounters {
  std::uint64_t num_calls = 0;         // halves of calls that waited for the peer
  std::uint64_t num_rows = 0;          // rows received from it in dispatches
  std::uint64_t wait_nanoseconds = 0;  // from the beginning of complete() to the arrival of its part, summed over calls
};

// Made by Group::plan(). Copies share the plan. One thread at a time; calls come in the same order on all ranks. On CPU ranks
// every call blocks until its results are there; a failure on any rank ends it with an Error on all: kTimeout, kPeerLost,
// kDisagreement, or kSystem where a rank ran out of memory or descriptors.
//
// On GPUs (GroupOptions::device) calls are enqueued in Execution::stream and return; arguments must stay valid until the stream
// has passed the call. Under Overflow::kGrow a dispatch that is not cached waits on the host, too, until the sizes are known;
// a slot that has to grow waits for the stream as well; and no call can be captured in a graph. Under kDrop nothing waits, and
// calls can be captured; each launch of the graph is then a call in the ranks' order of calls. A failure that kernels find ends
// their waits and leaves their results undefined; Group::status() tells of it, and the plan's next call throws it. Throughput
// mode only.
//
// Letting go of the last handle never waits for other ranks, but for a callback of Pending::on_done that is running.
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

  // The two calls in halves, in any mode: begin sends (in throughput mode it also exchanges counts), complete waits and
  // delivers. Calls of one plan still come in the same order on all ranks, halves included; other calls may be made in between.
  PendingDispatch begin_dispatch(const DispatchArgs& args) const;
  PendingCombine begin_combine(const CombineArgs& args) const;

  // Latency mode, where the memory that a rank writes to belongs to it alone: skips `rank` from the next call on. Nothing is
  // sent to it or awaited from it, and its experts count as absent. Local; only Group::recover() takes masked ranks back.
  // Should `rank` be alive, its group has failed: its next call that waits ends with an error, in other plans too. With
  // mask_late_ranks several ranks that are silent at once may take a timeout each. Error(kUnsupported) in throughput mode.
  void mask_rank(int rank) const;
  std::vector<int> masked_ranks() const;

  // Latency mode: by rank; may be read by any thread at any time.
  std::vector<PeerCounters> counters() const;

  // Collective: replaces the placement; every rank must pass the same table, with no more experts on any rank than the plan
  // was made for. Routings made before it still combine, but a cached dispatch with one is Error(kStale). On GPUs it waits
  // until the plan's calls are over, at most for the group's timeout; of replays of captured ones it does not know: synchronise
  // with their streams first. Later replays use the new table, if it leaves each rank as many experts as before.
  void place(const PlacementTable& placement) const;

  class Impl;
  explicit Plan(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tokenyard
