// What a dispatch learned: which token went to which row. Combine, a cached dispatch and the backward pass work from it.
#pragma once

#include <cstdint>
#include <memory>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// Copies share the contents, which never change. The views below stay valid as long as a copy lives, independent of the slot
// that the rows were in. N: received rows, k: top-k, R: ranks, L: this rank's experts, N': expanded rows. Under Overflow::kDrop
// N and N' are the fixed capacities, and entries that stand for no row are -1 (weights: 0); num_recv_rows() counts the real
// ones.
//
// Of ranks on GPUs the views are memory of the GPU, written when the call's stream has come so far. The host need not know N:
// the numbers below that it does not know are fetched, for which they wait until the GPU has finished the dispatch, at most for
// the group's timeout (Error(kTimeout)). They do not know when a captured call is replayed: synchronise with its stream first.
// A Routing of a captured call must live as long as the graph, each replay of which writes its contents anew.
class Routing {
 public:
  Routing() = default;  // empty: any use is Error(kStale)

  explicit operator bool() const noexcept { return data_ != nullptr; }

  std::int64_t num_tokens() const;         // that this rank sent
  std::int64_t num_recv_rows() const;      // GPUs, kDrop: fetched
  std::int64_t num_expanded_rows() const;  // rows of the expert layout, padding included; num_recv_rows() for the compact one.
                                           // GPUs, kDrop: fetched, except for kExpertPadded
  std::int64_t num_dropped() const;        // (token, expert) pairs that this rank lost for want of capacity. GPUs: fetched

  ConstTensorView topk_idx() const;        // i32 [N, k]: this rank's local expert ids, -1 for experts elsewhere
  ConstTensorView topk_weights() const;    // f32 [N, k]: all k weights of the token as its source gave them, also those of
                                           // experts elsewhere; empty where dispatch was given none
  ConstTensorView source_token() const;    // i32 [N]: the token's index at its source
  ConstTensorView source_offsets() const;  // i64 [R + 1]: rows [i, i + 1) came from rank i

  ConstTensorView expert_counts() const;   // i64 [L]: (token, expert) pairs that arrived, per expert
  ConstTensorView expert_dropped() const;  // i64 [L]: pairs lost per expert for want of capacity

  // Expert layouts; empty for the compact one.
  ConstTensorView expert_offsets() const;         // i64 [L + 1]: first row of each expert's group, aligned (kExpertContiguous)
  ConstTensorView expanded_row() const;           // i64 [N, k]: where (row, k) stands in the expert layout, or -1
  ConstTensorView gather_idx() const;             // i32 [N']: the compact row that each expanded row copies, or -1 for padding
  ConstTensorView expanded_source_token() const;  // i32 [N']: the token's index at its source, -1 for padding
  // i64 [L, R + 1]: within expert l's group, rows [l, i] to [l, i + 1] came from rank i, dropped rows not counted.
  ConstTensorView expert_source_offsets() const;
  ConstTensorView expanded_weights() const;  // f32 [N']: the weight of each expanded row, 0 for padding; empty without weights

  struct Data;
  explicit Routing(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  const std::shared_ptr<const Data>& data() const noexcept { return data_; }

 private:
  const Data& get() const;
  std::shared_ptr<const Data> data_;
};

}  // namespace tokenyard
