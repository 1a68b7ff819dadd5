// One rank of the demonstration: its part of the layer, batch by batch.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/demo_setup.hpp"
#include "tokenyard/plan.hpp"
#include "tokenyard/router.hpp"

namespace tokenyard::cli {

class DemoRank {
 public:
  DemoRank(const DemoSetup& setup, const Plan& plan, int rank);

  // Collective: gate, dispatch, experts, combine for the next batch of this rank's tokens.
  void run_batch();

  // Of all of this rank's tokens so far, in their order.
  const std::vector<float>& results() const { return results_; }            // [num_tokens, hidden]
  const std::vector<std::int64_t>& topk_idx() const { return topk_idx_; }   // [num_tokens, top_k]
  const std::vector<float>& topk_weights() const { return topk_weights_; }  // [num_tokens, top_k]

  // Rows that dispatch has brought here so far, by the rank they came from.
  const std::vector<std::int64_t>& rows_from() const { return rows_from_; }

 private:
  struct Batch;
  void choose_experts(Batch& batch);
  void make_payload(Batch& batch) const;
  std::vector<std::byte> apply_shared_expert(const Batch& batch) const;
  TensorView apply_experts(const Received& received);
  void apply_per_expert(const Received& received);
  void apply_per_row(const Received& received);
  void load_rows(const Received& received, std::int64_t first_row, std::int64_t num_rows, float* values) const;

  const DemoSetup& setup_;
  Plan plan_;
  Router router_;
  Gate gate_;
  std::vector<Expert> experts_;        // this rank's
  std::vector<Expert> shared_expert_;  // one or none
  std::int64_t next_token_;
  std::int64_t end_token_;
  std::vector<std::byte> expert_rows_;  // outputs of the experts, in the layout of the received rows
  std::vector<float> results_;
  std::vector<std::int64_t> topk_idx_;
  std::vector<float> topk_weights_;
  std::vector<std::int64_t> rows_from_;
};

}  // namespace tokenyard::cli
