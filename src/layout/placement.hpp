// Which ranks hold which experts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokenyard/shape.hpp"

namespace tokenyard {

// Where one copy of an expert stands.
struct Replica {
  std::int32_t rank;
  std::int32_t local_idx;  // among the experts of that rank
};

class Placement {
 public:
  // An empty table means contiguous placement. Throws Error(kInvalidArgument) for a table that cannot be.
  Placement(const PlacementTable& table, int num_experts, int num_ranks);

  int num_experts() const noexcept { return static_cast<int>(first_replica_.size()) - 1; }
  int num_local_experts(int rank) const noexcept { return num_local_experts_[rank]; }
  int max_local_experts() const noexcept;

  std::span<const Replica> replicas(int expert) const noexcept {
    return {replicas_.data() + first_replica_[expert], replicas_.data() + first_replica_[expert + 1]};
  }

  // The replica that serves a token: the source's own if it has one (the first), otherwise they take turns by source and token.
  // Depends on nothing else, so the same call sends the same way every time.
  Replica pick(int expert, int source_rank, std::int64_t token_idx) const noexcept;

  // Equal for equal placements; ranks compare it to find out that they disagree.
  std::uint64_t fingerprint() const noexcept;

 private:
  std::vector<Replica> replicas_;  // by expert, then rank, then local index
  std::vector<std::int32_t> first_replica_;
  std::vector<int> num_local_experts_;
};

}  // namespace tokenyard
