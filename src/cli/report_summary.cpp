#include "cli/report_summary.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cli/statistics.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

using Json = nlohmann::ordered_json;

// Matrices of more ranks show blocks of neighbours: a screen has no room for more, and a page of millions of numbers is slow.
constexpr int kMostCells = 96;
constexpr int kNumBins = 600;
// In the picture of one turn, for each rank.
constexpr std::size_t kMostSpans = 400;

double microseconds(std::int64_t nanoseconds) { return std::round(static_cast<double>(nanoseconds) / 100) / 10; }
double microseconds(double nanoseconds) { return std::round(nanoseconds / 100) / 10; }

int ranks_per_cell(const Timeline& timeline) { return (static_cast<int>(timeline.ranks.size()) + kMostCells - 1) / kMostCells; }
int num_cells(const Timeline& timeline) {
  return (static_cast<int>(timeline.ranks.size()) + ranks_per_cell(timeline) - 1) / ranks_per_cell(timeline);
}

Json empty_matrix(int num_rows) {
  return Json(std::vector<std::vector<std::int64_t>>(num_rows, std::vector<std::int64_t>(num_rows, 0)));
}

// --- Ranks -----------------------------------------------------------------------------------------------------------------

Json ranks_of(const GroupReport& group) {
  Json ranks = Json::array();
  for (std::size_t rank = 0; rank < group.timeline.ranks.size(); ++rank) {
    const RankTimeline& timeline = group.timeline.ranks[rank];
    std::int64_t waited_ns = 0;
    for (const Wait& wait : timeline.waits) waited_ns += counts_as_waiting(wait) ? wait.duration_ns() : 0;
    std::int64_t caused_ns = 0;
    for (const auto& row : group.blame.caused_ns) caused_ns += row[rank];
    ranks.push_back({{"rank", rank},
                     {"traced", timeline.is_traced},
                     {"host", timeline.host},
                     {"process", timeline.process},
                     {"waited_us", microseconds(waited_ns)},
                     {"caused_us", microseconds(caused_ns)}});
  }
  return ranks;
}

Json verdict_of(const Verdict& verdict) {
  constexpr std::array kNames{"nobody", "steady", "sometimes"};
  return {{"lateness", kNames[static_cast<std::size_t>(verdict.lateness)]},
          {"late_ranks", verdict.lateness == Lateness::kNobody ? std::vector<int>{} : verdict.ranks},
          {"most_caused_by", verdict.ranks},
          {"verb", verdict.verb},
          {"num_turns_led", verdict.num_turns_led},
          {"num_turns", verdict.num_turns},
          {"waited_us", microseconds(verdict.waited_seconds * 1e9)},
          {"waited_share", verdict.waited_share},
          {"median_us", microseconds(verdict.median_seconds * 1e9)},
          {"own_us", microseconds(verdict.own_seconds * 1e9)},
          {"lead", verdict.lead},
          {"activity", verdict.activity},
          {"activity_share", verdict.activity_share}};
}

// --- Matrices --------------------------------------------------------------------------------------------------------------

Json traffic_of(const Timeline& timeline) {
  const int block = ranks_per_cell(timeline);
  Json traffic = Json::object();
  for (const char* verb : {"all", "dispatch", "combine"}) {
    std::vector<std::vector<std::int64_t>> rows(num_cells(timeline), std::vector<std::int64_t>(num_cells(timeline), 0));
    std::vector<std::vector<std::int64_t>> bytes = rows;
    for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
      for (const Step& step : timeline.ranks[rank].steps) {
        if (std::string(verb) != "all" && step.verb != verb) continue;
        for (const Sent& sent : step.sent) {
          if (sent.peer < 0 || sent.peer >= static_cast<int>(timeline.ranks.size())) continue;
          rows[static_cast<int>(rank) / block][sent.peer / block] += sent.num_rows;
          bytes[static_cast<int>(rank) / block][sent.peer / block] += sent.num_bytes;
        }
      }
    }
    traffic[verb] = {{"rows", std::move(rows)}, {"bytes", std::move(bytes)}};
  }
  return traffic;
}

Json waiting_of(const GroupReport& group) {
  const Timeline& timeline = group.timeline;
  const int block = ranks_per_cell(timeline);
  const int num_rows = num_cells(timeline);
  std::map<std::pair<int, int>, std::vector<double>> waits;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    for (const Wait& wait : timeline.ranks[rank].waits) {
      if (!counts_as_waiting(wait)) continue;
      waits[{static_cast<int>(rank) / block, wait.peer / block}].push_back(static_cast<double>(wait.duration_ns()));
    }
  }
  Json waiting;
  for (const char* name : {"due_us", "total_us", "median_us", "p99_us", "max_us", "count"})
    waiting[name] = empty_matrix(num_rows);
  for (const auto& [cell, durations] : waits) {
    const auto& [from, to] = cell;
    double total = 0;
    for (const double duration : durations) total += duration;
    const Summary summary = summarize(durations);
    waiting["total_us"][from][to] = microseconds(total);
    waiting["median_us"][from][to] = microseconds(summary.p50);
    waiting["p99_us"][from][to] = microseconds(summary.p99);
    waiting["max_us"][from][to] = microseconds(summary.max);
    waiting["count"][from][to] = durations.size();
  }
  std::vector<std::vector<std::int64_t>> due(num_rows, std::vector<std::int64_t>(num_rows, 0));
  for (std::size_t waiter = 0; waiter < timeline.ranks.size(); ++waiter) {
    for (std::size_t cause = 0; cause < timeline.ranks.size(); ++cause) {
      due[static_cast<int>(waiter) / block][static_cast<int>(cause) / block] += group.blame.caused_ns[waiter][cause];
    }
  }
  for (int from = 0; from < num_rows; ++from) {
    for (int to = 0; to < num_rows; ++to) waiting["due_us"][from][to] = microseconds(due[from][to]);
  }
  return waiting;
}

// --- Phases ----------------------------------------------------------------------------------------------------------------

Json phases_of(const Timeline& timeline) {
  // Calls first, then their steps in the order of a call, then waits.
  std::map<std::pair<int, std::string>, std::vector<double>> durations;
  std::map<std::pair<int, std::string>, std::string> verbs;
  std::vector<std::pair<int, std::string>> order;
  const auto add = [&](int kind, const std::string& name, const std::string& verb, std::int64_t duration_ns) {
    const std::pair<int, std::string> key{kind, verb + "\n" + name};
    if (durations.find(key) == durations.end()) order.push_back(key);
    durations[key].push_back(static_cast<double>(duration_ns));
    verbs[key] = verb;
  };
  for (const RankTimeline& rank : timeline.ranks) {
    for (const Call& call : rank.calls) add(0, call.name, timeline.turns[call.turn_idx].verb, call.duration_ns());
    for (const Step& step : rank.steps) add(1, step.name, step.verb, step.duration_ns());
    for (const Wait& wait : rank.waits) add(2, wait.name, "", wait.duration_ns());
  }
  const auto verb_order = [](const std::string& verb) { return verb == "dispatch" ? 0 : verb == "combine" ? 1 : 2; };
  std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.first, verb_order(verbs[a])) < std::pair(b.first, verb_order(verbs[b]));
  });
  constexpr std::array kKinds{"call", "step", "wait"};
  Json phases = Json::array();
  for (const auto& key : order) {
    const std::vector<double>& values = durations[key];
    double total = 0;
    for (const double value : values) total += value;
    const Summary summary = summarize(values);
    phases.push_back({{"kind", kKinds[key.first]},
                      {"verb", verbs[key]},
                      {"name", key.second.substr(key.second.find('\n') + 1)},
                      {"count", values.size()},
                      {"median_us", microseconds(summary.p50)},
                      {"p99_us", microseconds(summary.p99)},
                      {"max_us", microseconds(summary.max)},
                      {"total_us", microseconds(total)}});
  }
  return phases;
}

// --- Timeline --------------------------------------------------------------------------------------------------------------

// Adds to each bin the part of it that [begin_ns, end_ns) covers, or takes it away: waiting inside a call is not work.
void cover(std::vector<double>* bins, double bin_ns, std::int64_t begin_ns, std::int64_t end_ns, double sign) {
  const auto begin = static_cast<double>(std::max<std::int64_t>(begin_ns, 0)) / bin_ns;
  const auto end = std::min(static_cast<double>(end_ns) / bin_ns, static_cast<double>(bins->size()));
  for (auto bin = static_cast<std::size_t>(begin); bin < bins->size() && static_cast<double>(bin) < end; ++bin) {
    const auto left = static_cast<double>(bin);
    (*bins)[bin] += sign * (std::min(end, left + 1) - std::max(begin, left));
  }
}

Json overview_of(const Timeline& timeline) {
  const double bin_ns = std::max(static_cast<double>(timeline.span_ns) / kNumBins, 1.0);
  Json ranks = Json::array();
  const auto shares = [](const std::vector<double>& bins) {
    Json list = Json::array();
    for (const double share : bins) list.push_back(static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * 100)));
    return list;
  };
  for (const RankTimeline& rank : timeline.ranks) {
    std::map<std::string, std::vector<double>> bins;
    for (const char* name : {"dispatch", "combine", "other", "waiting"}) bins[name].assign(kNumBins, 0);
    for (const Call& call : rank.calls) {
      const std::string& verb = timeline.turns[call.turn_idx].verb;
      cover(&bins[bins.count(verb) != 0 ? verb : "other"], bin_ns, call.begin_ns, call.end_ns, 1);
    }
    for (const Wait& wait : rank.waits) {
      if (!counts_as_waiting(wait)) continue;
      cover(&bins["waiting"], bin_ns, wait.begin_ns, wait.end_ns, 1);
      if (wait.turn_idx < 0) continue;
      const std::string& verb = timeline.turns[wait.turn_idx].verb;
      cover(&bins[bins.count(verb) != 0 ? verb : "other"], bin_ns, wait.begin_ns, wait.end_ns, -1);
    }
    Json lanes = Json::object();
    for (const auto& [name, values] : bins) lanes[name] = shares(values);
    ranks.push_back(std::move(lanes));
  }
  return {{"span_us", microseconds(timeline.span_ns)}, {"bins", kNumBins}, {"percent", std::move(ranks)}};
}

// --- One turn close up -----------------------------------------------------------------------------------------------------

// Of the turns of the costliest kind the one with the median of waiting, so that it shows what is usual.
int typical_turn(const GroupReport& group) {
  std::vector<std::pair<std::int64_t, int>> turns;
  for (std::size_t turn = 0; turn < group.timeline.turns.size(); ++turn) {
    const std::string& verb = group.timeline.turns[turn].verb;
    if (group.verdict.verb.empty() ? verb == "barrier" : verb != group.verdict.verb) continue;
    std::int64_t waited_ns = 0;
    for (const auto& [cause, by_waiter] : group.blame.by_turn[turn]) {
      for (const auto& [waiter, time_ns] : by_waiter) waited_ns += time_ns;
    }
    turns.emplace_back(waited_ns, static_cast<int>(turn));
  }
  if (turns.empty()) return -1;
  std::nth_element(turns.begin(), turns.begin() + static_cast<std::ptrdiff_t>(turns.size() / 2), turns.end());
  return turns[turns.size() / 2].second;
}

Json close_up_of(const GroupReport& group) {
  const Timeline& timeline = group.timeline;
  const int turn_idx = typical_turn(group);
  if (turn_idx < 0) return nullptr;
  std::int64_t begin_ns = timeline.span_ns;
  std::int64_t end_ns = 0;
  for (const RankTimeline& rank : timeline.ranks) {
    for (const Call& call : rank.calls) {
      if (call.turn_idx != turn_idx) continue;
      begin_ns = std::min(begin_ns, call.begin_ns);
      end_ns = std::max(end_ns, call.end_ns);
    }
  }
  const std::int64_t margin_ns = (end_ns - begin_ns) / 25;
  begin_ns = std::max<std::int64_t>(begin_ns - margin_ns, 0);
  end_ns += margin_ns;
  Json ranks = Json::array();
  for (const RankTimeline& rank : timeline.ranks) {
    Json spans = Json::array();
    const auto add = [&](const Span& span, const char* kind, const std::string& verb, int peer) {
      if (span.end_ns <= begin_ns || span.begin_ns >= end_ns || spans.size() >= kMostSpans) return;
      spans.push_back({{"kind", kind},
                       {"verb", verb},
                       {"name", span.name},
                       {"begin_us", microseconds(std::max(span.begin_ns, begin_ns) - begin_ns)},
                       {"end_us", microseconds(std::min(span.end_ns, end_ns) - begin_ns)}});
      if (peer >= 0) spans.back()["peer"] = peer;
    };
    for (const Call& call : rank.calls) add(call, "call", timeline.turns[call.turn_idx].verb, -1);
    for (const Step& step : rank.steps) add(step, "step", step.verb, -1);
    for (const Wait& wait : rank.waits) {
      add(wait, "wait", wait.turn_idx >= 0 ? timeline.turns[wait.turn_idx].verb : "", wait.peer);
    }
    ranks.push_back(std::move(spans));
  }
  const TurnKey& key = timeline.turns[turn_idx];
  return {{"verb", key.verb},
          {"plan", key.plan},
          {"slot", key.slot},
          {"turn", key.number},
          {"begin_us", microseconds(begin_ns)},
          {"span_us", microseconds(end_ns - begin_ns)},
          {"ranks", std::move(ranks)}};
}

Json group_of(const GroupReport& group) {
  std::map<std::string, int> num_turns;
  for (const TurnKey& turn : group.timeline.turns) ++num_turns[turn.verb];
  return {{"group", group.timeline.group},
          {"num_ranks", group.timeline.ranks.size()},
          {"sentence", group.verdict.sentence},
          {"verdict", verdict_of(group.verdict)},
          {"num_turns", num_turns},
          {"span_us", microseconds(group.timeline.span_ns)},
          {"nobodys_us", microseconds(group.blame.nobodys_ns)},
          {"several_clocks", group.timeline.has_several_clocks},
          {"ranks", ranks_of(group)},
          {"ranks_per_cell", ranks_per_cell(group.timeline)},
          {"traffic", traffic_of(group.timeline)},
          {"waiting", waiting_of(group)},
          {"phases", phases_of(group.timeline)},
          {"timeline", overview_of(group.timeline)},
          {"close_up", close_up_of(group)}};
}

}  // namespace

std::string report_json(const ReportHeader& header, const std::vector<GroupReport>& groups, JsonStyle style) {
  Json document{{"tokenyard", version()}, {"files", header.files}, {"notes", header.notes}, {"num_groups", header.num_groups}};
  document["groups"] = Json::array();
  for (const GroupReport& group : groups) document["groups"].push_back(group_of(group));
  // Host names and paths may hold bytes that are not UTF-8.
  return document.dump(style == JsonStyle::kIndented ? 1 : -1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tokenyard::cli
