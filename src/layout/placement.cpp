#include "layout/placement.hpp"

#include <algorithm>

#include "base/fail.hpp"
#include "base/fingerprint.hpp"
#include "base/hooks.hpp"

namespace tokenyard {
namespace {

PlacementTable contiguous(int num_experts, int num_ranks) {
  const int experts_per_rank = (num_experts + num_ranks - 1) / num_ranks;
  PlacementTable table;
  table.experts_of.resize(num_ranks);
  for (int expert = 0; expert < num_experts; ++expert) table.experts_of[expert / experts_per_rank].push_back(expert);
  return table;
}

}  // namespace

Placement::Placement(const PlacementTable& given, int num_experts, int num_ranks)
    : first_replica_(num_experts + 1), num_local_experts_(num_ranks) {
  const PlacementTable table = given.experts_of.empty() ? contiguous(num_experts, num_ranks) : given;
  if (static_cast<int>(table.experts_of.size()) != num_ranks) {
    fail_argument("the placement table has {} rows and the group {} ranks: give one list of experts per rank",
                  table.experts_of.size(), num_ranks);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    num_local_experts_[rank] = static_cast<int>(table.experts_of[rank].size());
    for (const std::int32_t expert : table.experts_of[rank]) {
      if (expert < 0 || expert >= num_experts) {
        fail_argument("the placement table puts expert {} on rank {}; experts are numbered 0 to {}", expert, rank,
                      num_experts - 1);
      }
      ++first_replica_[expert + 1];
    }
  }
  for (int expert = 0; expert < num_experts; ++expert) {
    if (first_replica_[expert + 1] == 0) {
      fail_argument("the placement table puts expert {} on no rank: every expert needs at least one", expert);
    }
    first_replica_[expert + 1] += first_replica_[expert];
  }
  replicas_.resize(first_replica_[num_experts]);
  std::vector<std::int32_t> next(first_replica_.begin(), first_replica_.end() - 1);
  for (int rank = 0; rank < num_ranks; ++rank) {
    for (int local_idx = 0; local_idx < num_local_experts_[rank]; ++local_idx) {
      replicas_[next[table.experts_of[rank][local_idx]]++] = {rank, local_idx};
    }
  }
}

int Placement::max_local_experts() const noexcept {
  return *std::max_element(num_local_experts_.begin(), num_local_experts_.end());
}

Replica Placement::pick(int expert, int source_rank, std::int64_t token_idx) const noexcept {
  const std::span<const Replica> choices = replicas(expert);
  if (choices.size() == 1 || has_fault(Fault::kReplicasTakeNoTurns)) return choices[0];
  for (const Replica& choice : choices) {
    if (choice.rank == source_rank) return choice;
  }
  return choices[static_cast<std::size_t>(source_rank + token_idx) % choices.size()];
}

std::uint64_t Placement::fingerprint() const noexcept {
  Fingerprint fingerprint;
  for (const std::int32_t first : first_replica_) fingerprint.mix(static_cast<std::uint32_t>(first));
  for (const Replica& replica : replicas_) {
    fingerprint.mix(static_cast<std::uint32_t>(replica.rank));
    fingerprint.mix(static_cast<std::uint32_t>(replica.local_idx));
  }
  return fingerprint.value();
}

}  // namespace tokenyard
