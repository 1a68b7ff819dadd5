#include "cli/blame.hpp"

#include <algorithm>
#include <tuple>

namespace tokenyard::cli {
namespace {

struct Edge {
  std::int64_t time_ns;
  int rank;
  int wait_idx;
  bool begins;
};

// Time in which others waited because of a rank; consecutive and disjoint.
struct Stretch {
  std::int64_t begin_ns;
  std::int64_t end_ns;
};

class Sweep {
 public:
  explicit Sweep(const Timeline& timeline) : timeline_(timeline), active_(timeline.ranks.size()) {
    const std::size_t num_ranks = timeline.ranks.size();
    blame_.caused_ns.assign(num_ranks, std::vector<std::int64_t>(num_ranks, 0));
    blame_.by_turn.resize(timeline.turns.size());
    blame_.activity_ns.resize(num_ranks);
    stretches_.resize(num_ranks);
  }

  Blame run() {
    const std::vector<Edge> edges = find_edges();
    std::int64_t before_ns = 0;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (edges[i].time_ns > before_ns) assign(before_ns, edges[i].time_ns);
      before_ns = edges[i].time_ns;
      std::vector<int>& active = active_[edges[i].rank];
      if (edges[i].begins) {
        active.push_back(edges[i].wait_idx);
      } else {
        std::erase(active, edges[i].wait_idx);
      }
    }
    for (std::size_t rank = 0; rank < stretches_.size(); ++rank) find_activity(static_cast<int>(rank));
    return std::move(blame_);
  }

 private:
  std::vector<Edge> find_edges() const {
    std::vector<Edge> edges;
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      const std::vector<Wait>& waits = timeline_.ranks[rank].waits;
      for (std::size_t i = 0; i < waits.size(); ++i) {
        if (!counts_as_waiting(waits[i]) || waits[i].end_ns <= waits[i].begin_ns) continue;
        edges.push_back({waits[i].begin_ns, static_cast<int>(rank), static_cast<int>(i), true});
        edges.push_back({waits[i].end_ns, static_cast<int>(rank), static_cast<int>(i), false});
      }
    }
    std::sort(edges.begin(), edges.end(),
              [](const Edge& a, const Edge& b) { return std::tie(a.time_ns, a.begins) < std::tie(b.time_ns, b.begins); });
    return edges;
  }

  // The rank at the end of the chain that begins with `rank`, or -1 where it has no end.
  int end_of_chain(int rank) const {
    for (std::size_t num_links = 0; num_links <= active_.size(); ++num_links) {
      if (active_[rank].empty()) return rank;
      rank = timeline_.ranks[rank].waits[active_[rank].back()].peer;
    }
    return -1;
  }

  // Nothing changes between the two times.
  void assign(std::int64_t begin_ns, std::int64_t end_ns) {
    for (std::size_t rank = 0; rank < active_.size(); ++rank) {
      if (active_[rank].empty()) continue;
      const Wait& wait = timeline_.ranks[rank].waits[active_[rank].back()];
      const int cause = end_of_chain(wait.peer);
      if (cause < 0 || cause == static_cast<int>(rank)) {
        blame_.nobodys_ns += end_ns - begin_ns;
        continue;
      }
      blame_.caused_ns[rank][cause] += end_ns - begin_ns;
      if (wait.turn_idx >= 0) blame_.by_turn[wait.turn_idx][cause][static_cast<int>(rank)] += end_ns - begin_ns;
      std::vector<Stretch>& stretches = stretches_[cause];
      if (!stretches.empty() && stretches.back().end_ns >= begin_ns) {
        stretches.back().end_ns = end_ns;
      } else {
        stretches.push_back({begin_ns, end_ns});
      }
    }
  }

  void find_activity(int rank) {
    std::map<std::string, std::int64_t>& activity = blame_.activity_ns[rank];
    // Innermost first: what is in a step is not counted again for its call.
    std::int64_t in_calls_ns = 0;
    std::int64_t in_steps_ns = 0;
    for_each_overlap(stretches_[rank], timeline_.ranks[rank].steps, [&](const Step& step, std::int64_t overlap_ns) {
      activity[step.name] += overlap_ns;
      in_steps_ns += overlap_ns;
    });
    for_each_overlap(stretches_[rank], timeline_.ranks[rank].calls,
                     [&](const Call&, std::int64_t overlap_ns) { in_calls_ns += overlap_ns; });
    std::int64_t all_ns = 0;
    for (const Stretch& stretch : stretches_[rank]) all_ns += stretch.end_ns - stretch.begin_ns;
    const std::int64_t outside_ns = all_ns - std::max(in_calls_ns, in_steps_ns);
    if (outside_ns > 0) activity[""] += outside_ns;
  }

  template <class AnySpan, class Found>
  static void for_each_overlap(const std::vector<Stretch>& stretches, const std::vector<AnySpan>& spans, Found&& found) {
    std::size_t first = 0;
    for (const AnySpan& span : spans) {
      while (first < stretches.size() && stretches[first].end_ns <= span.begin_ns) ++first;
      for (std::size_t i = first; i < stretches.size() && stretches[i].begin_ns < span.end_ns; ++i) {
        const std::int64_t overlap_ns =
            std::min(stretches[i].end_ns, span.end_ns) - std::max(stretches[i].begin_ns, span.begin_ns);
        if (overlap_ns > 0) found(span, overlap_ns);
      }
    }
  }

  const Timeline& timeline_;
  std::vector<std::vector<int>> active_;  // by rank: its waits under way, of several threads if there are several
  std::vector<std::vector<Stretch>> stretches_;
  Blame blame_;
};

}  // namespace

bool counts_as_waiting(const Wait& wait) { return wait.name != "mapping" && wait.name != "rendezvous"; }

Blame find_blame(const Timeline& timeline) { return Sweep(timeline).run(); }

}  // namespace tokenyard::cli
