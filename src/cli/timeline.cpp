#include "cli/timeline.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

// What one file says about one rank.
struct Part {
  const NamedTrace* trace;
  TracedRank who;
  std::vector<const TracedSpan*> spans;
  std::int64_t begin_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t end_ns = std::numeric_limits<std::int64_t>::min();
};

std::map<std::string, std::vector<Part>> parts_by_group(const std::vector<NamedTrace>& traces) {
  std::map<std::string, std::vector<Part>> groups;
  for (const NamedTrace& trace : traces) {
    std::map<int, Part> parts;  // by pid
    for (const TracedRank& rank : trace.events.ranks) parts[rank.pid] = {.trace = &trace, .who = rank, .spans = {}};
    for (const TracedSpan& span : trace.events.spans) {
      const auto part = parts.find(span.pid);
      if (part == parts.end()) continue;
      part->second.spans.push_back(&span);
      part->second.begin_ns = std::min(part->second.begin_ns, span.begin_ns);
      part->second.end_ns = std::max(part->second.end_ns, span.end_ns);
    }
    for (auto& [pid, part] : parts) groups[part.who.group].push_back(std::move(part));
  }
  return groups;
}

void check_parts(const std::vector<Part>& parts) {
  for (const Part& a : parts) {
    if (a.who.num_ranks != parts.front().who.num_ranks) {
      fail_argument("{} and {} disagree about the number of ranks: {} and {}", parts.front().trace->path, a.trace->path,
                    parts.front().who.num_ranks, a.who.num_ranks);
    }
    for (const Part& b : parts) {
      if (&a == &b) break;
      if (a.who.rank != b.who.rank || a.begin_ns >= b.end_ns || b.begin_ns >= a.end_ns) continue;
      fail_argument("{} and {} tell of the same time of rank {}: give each file once", b.trace->path, a.trace->path,
                    a.who.rank);
    }
  }
}

std::string verb_of(const std::string& call) {
  for (const char* verb : {"dispatch", "combine"}) {
    if (call.find(verb) != std::string::npos) return verb;
  }
  return call;
}

// The call that a thread was in at a time, or nullptr.
const Call* call_at(const std::vector<Call>& calls, int thread, std::int64_t time_ns) {
  auto call = std::upper_bound(calls.begin(), calls.end(), time_ns,
                               [](std::int64_t time, const Call& later) { return time < later.begin_ns; });
  // Threads of one rank that use different plans overlap; a few calls back is far enough.
  for (int num_looks = 0; call != calls.begin() && num_looks < 16; ++num_looks) {
    --call;
    if (call->thread == thread && call->begin_ns <= time_ns && time_ns <= call->end_ns) return &*call;
  }
  return nullptr;
}

template <class AnySpan>
void sort_by_begin(std::vector<AnySpan>* spans) {
  std::stable_sort(spans->begin(), spans->end(), [](const auto& a, const auto& b) { return a.begin_ns < b.begin_ns; });
}

void add_part(const Part& part, std::int64_t shift_ns, Timeline* timeline, std::map<TurnKey, int>* turn_indices) {
  RankTimeline& rank = timeline->ranks[part.who.rank];
  rank.is_traced = true;
  rank.host = part.who.host;
  rank.process = part.who.process;
  for (const TracedSpan* traced : part.spans) {
    const Span span{traced->name, traced->begin_ns + shift_ns, traced->end_ns + shift_ns, traced->thread};
    timeline->span_ns = std::max(timeline->span_ns, span.end_ns);
    switch (traced->kind) {
      case TracedSpan::Kind::kCall: {
        const TurnKey key{verb_of(span.name), traced->plan, traced->slot, traced->generation, traced->turn};
        const auto [found, is_new] = turn_indices->emplace(key, static_cast<int>(timeline->turns.size()));
        if (is_new) timeline->turns.push_back(key);
        rank.calls.push_back({span, found->second});
        break;
      }
      case TracedSpan::Kind::kStep: rank.steps.push_back({span, "", traced->sent}); break;
      case TracedSpan::Kind::kWait:
        if (traced->peer >= 0 && traced->peer < static_cast<int>(timeline->ranks.size())) {
          rank.waits.push_back({span, traced->peer, -1});
        }
        break;
    }
  }
}

// Nobody leaves a barrier before the last rank has entered it.
void add_barrier_waits(Timeline* timeline) {
  std::map<int, std::vector<std::pair<int, const Call*>>> barriers;  // by turn: ranks and their calls
  for (std::size_t rank = 0; rank < timeline->ranks.size(); ++rank) {
    for (const Call& call : timeline->ranks[rank].calls) {
      if (timeline->turns[call.turn_idx].verb == "barrier") {
        barriers[call.turn_idx].emplace_back(static_cast<int>(rank), &call);
      }
    }
  }
  for (const auto& [turn_idx, calls] : barriers) {
    if (calls.size() != timeline->ranks.size()) continue;
    const auto last = std::max_element(calls.begin(), calls.end(),
                                       [](const auto& a, const auto& b) { return a.second->begin_ns < b.second->begin_ns; });
    for (const auto& [rank, call] : calls) {
      const std::int64_t end_ns = std::min(last->second->begin_ns, call->end_ns);
      if (end_ns <= call->begin_ns) continue;
      timeline->ranks[rank].waits.push_back({{"barrier", call->begin_ns, end_ns, call->thread}, last->first, turn_idx});
    }
  }
}

Timeline make_timeline(const std::string& group, const std::vector<Part>& parts) {
  check_parts(parts);
  Timeline timeline;
  timeline.group = group;
  timeline.ranks.resize(parts.front().who.num_ranks);
  std::set<std::string> clocks;
  for (const Part& part : parts) clocks.insert(part.who.clock);
  timeline.has_several_clocks = clocks.size() > 1;
  const auto offset_of = [&](const Part& part) {
    return timeline.has_several_clocks ? part.who.realtime_offset_ns : std::int64_t{0};
  };
  std::int64_t first_ns = std::numeric_limits<std::int64_t>::max();
  for (const Part& part : parts) {
    if (!part.spans.empty()) first_ns = std::min(first_ns, part.begin_ns + offset_of(part));
  }
  std::map<TurnKey, int> turn_indices;
  for (const Part& part : parts) add_part(part, offset_of(part) - first_ns, &timeline, &turn_indices);

  for (RankTimeline& rank : timeline.ranks) {
    sort_by_begin(&rank.calls);
    for (Step& step : rank.steps) {
      const Call* call = call_at(rank.calls, step.thread, step.begin_ns + step.duration_ns() / 2);
      if (call != nullptr) step.verb = timeline.turns[call->turn_idx].verb;
    }
    for (Wait& wait : rank.waits) {
      const Call* call = call_at(rank.calls, wait.thread, wait.begin_ns + wait.duration_ns() / 2);
      if (call != nullptr) wait.turn_idx = call->turn_idx;
    }
  }
  add_barrier_waits(&timeline);
  for (RankTimeline& rank : timeline.ranks) {
    sort_by_begin(&rank.steps);
    sort_by_begin(&rank.waits);
  }
  return timeline;
}

std::size_t num_spans(const Timeline& timeline) {
  std::size_t sum = 0;
  for (const RankTimeline& rank : timeline.ranks) sum += rank.calls.size() + rank.steps.size() + rank.waits.size();
  return sum;
}

}  // namespace

std::vector<Timeline> make_timelines(const std::vector<NamedTrace>& traces) {
  std::vector<Timeline> timelines;
  for (const auto& [group, parts] : parts_by_group(traces)) timelines.push_back(make_timeline(group, parts));
  std::stable_sort(timelines.begin(), timelines.end(),
                   [](const Timeline& a, const Timeline& b) { return num_spans(a) > num_spans(b); });
  return timelines;
}

}  // namespace tokenyard::cli
