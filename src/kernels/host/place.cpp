#include "kernels/host/place.hpp"

#include <algorithm>
#include <vector>

#include "base/hooks.hpp"

namespace tokenyard::host {

void place(const PlaceArgs& args) {
  std::int64_t capacity = args.capacity;
  if (has_fault(Fault::kPlaceDropsOneTooMany)) --capacity;

  // First row of this rank's tokens at each destination: behind those of all lower ranks.
  std::vector<std::int64_t> first_row(args.num_ranks, 0);
  for (int source = 0; source < args.rank; ++source) {
    for (int peer = 0; peer < args.num_ranks; ++peer) first_row[peer] += args.rank_counts[source * args.num_ranks + peer];
  }
  if (has_fault(Fault::kPlaceBaseOffByOne) && args.rank > 0) ++first_row[0];

  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    for (int o = 0; o < args.fan_out[token]; ++o) {
      const std::int64_t entry = token * args.max_fan_out + o;
      const std::int64_t row = first_row[args.destination[entry]] + args.row[entry];
      args.row[entry] = row < capacity ? row : -1;
    }
  }

  std::int64_t num_rows = 0;
  for (int source = 0; source < args.num_ranks; ++source) {
    args.source_offsets[source] = std::min(num_rows, args.capacity);
    num_rows += args.rank_counts[source * args.num_ranks + args.rank];
  }
  args.source_offsets[args.num_ranks] = std::min(num_rows, args.capacity);
}

std::int64_t max_recv_rows(const std::int32_t* rank_counts, int num_ranks) {
  std::vector<std::int64_t> num_rows(num_ranks, 0);
  for (int source = 0; source < num_ranks; ++source) {
    for (int peer = 0; peer < num_ranks; ++peer) num_rows[peer] += rank_counts[source * num_ranks + peer];
  }
  return *std::max_element(num_rows.begin(), num_rows.end());
}

}  // namespace tokenyard::host
