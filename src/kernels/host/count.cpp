#include "kernels/host/count.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/fail.hpp"
#include "base/hooks.hpp"

namespace tokenyard::host {
namespace {

std::int64_t load_id(const ConstTensorView& topk_idx, std::int64_t token, int k) {
  if (topk_idx.dtype == DataType::kInt32) {
    std::int32_t id;
    std::memcpy(&id, topk_idx.at(token, k), sizeof(id));
    return id;
  }
  std::int64_t id;
  std::memcpy(&id, topk_idx.at(token, k), sizeof(id));
  return id;
}

}  // namespace

void count(const CountArgs& args) {
  const Placement& placement = *args.placement;
  const std::int64_t num_tokens = args.topk_idx.shape[0];
  const int top_k = static_cast<int>(args.topk_idx.shape[1]);
  std::array<Replica, kMaxTopK> chosen;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    std::int32_t* destination = args.destination + token * args.max_fan_out;
    int fan_out = 0;
    for (int k = 0; k < top_k; ++k) {
      const std::int64_t id = load_id(args.topk_idx, token, k);
      if (id < -1 || id >= placement.num_experts()) {
        fail_argument("topk_idx[{}, {}] is {}: ids go from 0 to {}, and -1 stands for no expert", token, k, id,
                      placement.num_experts() - 1);
      }
      chosen[k] = id == -1 ? Replica{-1, -1} : placement.pick(static_cast<int>(id), args.rank, token);
      if (id == -1) continue;
      // Insertion into the ascending list of ranks; top_k is small.
      int place = fan_out;
      while (place > 0 && destination[place - 1] > chosen[k].rank) --place;
      if (place > 0 && destination[place - 1] == chosen[k].rank) {
        if (has_fault(Fault::kCountDuplicateRank)) ++args.rank_counts[chosen[k].rank];
        continue;
      }
      std::copy_backward(destination + place, destination + fan_out, destination + fan_out + 1);
      destination[place] = chosen[k].rank;
      ++fan_out;
    }
    args.fan_out[token] = fan_out;
    for (int o = 0; o < fan_out; ++o) args.row[token * args.max_fan_out + o] = args.rank_counts[destination[o]]++;
    for (int k = 0; k < top_k; ++k) {
      const Replica& replica = chosen[k];
      args.local_idx[token * top_k + k] = replica.local_idx;
      args.ordinal[token * top_k + k] =
          replica.rank == -1
              ? -1
              : static_cast<std::int32_t>(std::lower_bound(destination, destination + fan_out, replica.rank) - destination);
      if (replica.rank != -1) {
        ++args.expert_counts[static_cast<std::int64_t>(replica.rank) * args.max_local_experts + replica.local_idx];
      }
    }
  }
}

}  // namespace tokenyard::host
