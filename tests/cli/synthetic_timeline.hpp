// Timelines written by hand: dispatches of ranks that arrive when told and then wait for each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/timeline.hpp"

namespace tokenyard::cli {

constexpr std::int64_t kMicrosecond = 1000;

inline Timeline timeline_of_ranks(int num_ranks) {
  Timeline timeline;
  timeline.ranks.resize(num_ranks);
  for (RankTimeline& rank : timeline.ranks) rank.is_traced = true;
  return timeline;
}

inline void add_wait(Timeline& timeline, int rank, int peer, std::int64_t begin_ns, std::int64_t end_ns, int turn_idx = -1) {
  timeline.ranks[rank].waits.push_back({{"dispatch/counts", begin_ns, end_ns, rank}, peer, turn_idx});
  timeline.span_ns = std::max(timeline.span_ns, end_ns);
}

// A dispatch into which the ranks come at these times. Each waits for those that come later, in the order of their arrival.
inline void add_turn(Timeline& timeline, const std::vector<std::int64_t>& arrivals_ns) {
  const auto turn_idx = static_cast<int>(timeline.turns.size());
  timeline.turns.push_back({"dispatch", 0, turn_idx % 2, 1, turn_idx / 2 + 1});
  const std::int64_t last_ns = *std::max_element(arrivals_ns.begin(), arrivals_ns.end());
  for (std::size_t rank = 0; rank < arrivals_ns.size(); ++rank) {
    std::int64_t now_ns = arrivals_ns[rank];
    for (;;) {
      // The next to come.
      int next = -1;
      for (std::size_t peer = 0; peer < arrivals_ns.size(); ++peer) {
        if (arrivals_ns[peer] > now_ns && (next < 0 || arrivals_ns[peer] < arrivals_ns[next])) next = static_cast<int>(peer);
      }
      if (next < 0) break;
      add_wait(timeline, static_cast<int>(rank), next, now_ns, arrivals_ns[next], turn_idx);
      now_ns = arrivals_ns[next];
    }
    const std::int64_t end_ns = last_ns + 10 * kMicrosecond;
    const auto thread = static_cast<int>(rank);
    timeline.ranks[rank].calls.push_back({{"begin dispatch", arrivals_ns[rank], end_ns, thread}, turn_idx});
    timeline.ranks[rank].steps.push_back({{"push", last_ns, end_ns, thread}, "dispatch", {{0, 3, 300}}});
    timeline.span_ns = std::max(timeline.span_ns, end_ns);
  }
}

}  // namespace tokenyard::cli
