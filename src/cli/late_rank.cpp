#include "cli/late_rank.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "cli/statistics.hpp"

namespace tokenyard::cli {
namespace {

// The ranks named have caused so many times the waiting that the next one has.
constexpr double kLead = 2;
constexpr double kLeadOfStalls = 3;
// Of the time, by each of the others on average; less does not matter.
constexpr double kLeastShare = 0.02;
constexpr double kLeastShareOfStalls = 0.1;
// Several ranks are named together only if each has caused at least this part of what the worst has.
constexpr double kLeastOfWorst = 0.15;
// A turn counts for no more than so many times the median turn, when what is usual is to be found.
constexpr double kTurnCap = 4;

double seconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }

// A rank that leads by chance does so in every second turn of two ranks, and less often among more.
double least_turns_led(std::size_t num_ranks) { return num_ranks == 2 ? 0.7 : 0.5; }

std::int64_t sum_of(const std::map<int, std::int64_t>& by_waiter) {
  std::int64_t sum = 0;
  for (const auto& [waiter, waited_ns] : by_waiter) sum += waited_ns;
  return sum;
}

// [rank]: waiting that it has caused.
std::vector<double> caused_by_rank(const Blame& blame) {
  std::vector<double> caused(blame.caused_ns.size(), 0);
  for (const auto& row : blame.caused_ns) {
    for (std::size_t cause = 0; cause < row.size(); ++cause) caused[cause] += static_cast<double>(row[cause]);
  }
  return caused;
}

double total_of(const std::map<int, std::map<int, std::int64_t>>& causes) {
  double total = 0;
  for (const auto& [cause, by_waiter] : causes) total += static_cast<double>(sum_of(by_waiter));
  return total;
}

// By verb: all waiting in a turn beyond which it is no longer what is usual.
std::map<std::string, double> turn_caps(const Timeline& timeline, const Blame& blame) {
  std::map<std::string, std::vector<double>> totals;
  for (std::size_t turn = 0; turn < blame.by_turn.size(); ++turn) {
    totals[timeline.turns[turn].verb].push_back(total_of(blame.by_turn[turn]));
  }
  std::map<std::string, double> caps;
  for (const auto& [verb, values] : totals) caps[verb] = kTurnCap * percentile(values, 50);
  return caps;
}

// By verb: all waiting in a turn from which it is a stall. Where half of the turns have no waiting at all, the median says
// nothing, but the mean does.
std::map<std::string, double> stall_limits(const Timeline& timeline, const Blame& blame, std::map<std::string, double> caps) {
  std::map<std::string, std::pair<double, int>> sums;
  for (std::size_t turn = 0; turn < blame.by_turn.size(); ++turn) {
    auto& [sum, num_turns] = sums[timeline.turns[turn].verb];
    sum += total_of(blame.by_turn[turn]);
    ++num_turns;
  }
  for (auto& [verb, cap] : caps) cap = std::max(cap, 2 * sums[verb].first / sums[verb].second);
  return caps;
}

// As caused_by_rank, with unusual turns cut down: what is usual.
std::vector<double> usually_caused(const Timeline& timeline, const Blame& blame, const std::map<std::string, double>& caps) {
  std::vector<double> caused(timeline.ranks.size(), 0);
  for (std::size_t turn = 0; turn < blame.by_turn.size(); ++turn) {
    const double total = total_of(blame.by_turn[turn]);
    const double scale = total > 0 ? std::min(1.0, caps.at(timeline.turns[turn].verb) / total) : 0;
    for (const auto& [cause, by_waiter] : blame.by_turn[turn]) caused[cause] += scale * static_cast<double>(sum_of(by_waiter));
  }
  return caused;
}

double lead_of(const std::vector<int>& ranks, const std::vector<double>& caused) {
  double least = std::numeric_limits<double>::infinity();
  double next = 0;
  for (std::size_t rank = 0; rank < caused.size(); ++rank) {
    const bool is_named = std::find(ranks.begin(), ranks.end(), static_cast<int>(rank)) != ranks.end();
    if (is_named) {
      least = std::min(least, caused[rank]);
    } else {
      next = std::max(next, caused[rank]);
    }
  }
  return next > 0 ? least / next : (least > 0 ? std::numeric_limits<double>::infinity() : 0);
}

// The few ranks, fewer than half, behind which the waiting caused falls off most.
std::vector<int> worst_ranks(const std::vector<double>& caused) {
  std::vector<int> order(caused.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return caused[a] > caused[b]; });
  const std::size_t most = std::max<std::size_t>(1, (caused.size() - 1) / 2);
  std::vector<int> worst;
  double best_lead = 0;
  for (std::size_t num_named = 1; num_named <= most; ++num_named) {
    if (caused[order[num_named - 1]] < kLeastOfWorst * caused[order[0]]) break;
    const std::vector<int> named(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(num_named));
    const double lead = lead_of(named, caused);
    if (!worst.empty() && lead <= best_lead) continue;
    best_lead = lead;
    worst = named;
  }
  std::sort(worst.begin(), worst.end());
  return worst;
}

std::int64_t active_ns(const Timeline& timeline) {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (const RankTimeline& rank : timeline.ranks) {
    for (const Call& call : rank.calls) {
      begin = std::min(begin, call.begin_ns);
      end = std::max(end, call.end_ns);
    }
  }
  return std::max<std::int64_t>(end - begin, 1);
}

bool is_in(const std::vector<int>& ranks, int rank) { return std::find(ranks.begin(), ranks.end(), rank) != ranks.end(); }

// Fills in the turns that the ranks lead, of the kind in which they cost most; with `limits` only those with more.
void find_turns_led(const Timeline& timeline, const Blame& blame, const std::map<std::string, double>* limits,
                    Verdict* verdict) {
  struct OfVerb {
    double caused = 0;
    int num_turns = 0;
    std::vector<double> longest;  // of each turn led
  };
  std::map<std::string, OfVerb> verbs;
  for (std::size_t turn = 0; turn < blame.by_turn.size(); ++turn) {
    OfVerb& verb = verbs[timeline.turns[turn].verb];
    ++verb.num_turns;
    std::int64_t theirs = 0;
    std::int64_t all = 0;
    std::map<int, std::int64_t> waited;
    for (const auto& [cause, by_waiter] : blame.by_turn[turn]) {
      all += sum_of(by_waiter);
      if (!is_in(verdict->ranks, cause)) continue;
      theirs += sum_of(by_waiter);
      for (const auto& [waiter, waited_ns] : by_waiter) waited[waiter] += waited_ns;
    }
    verb.caused += seconds(theirs);
    if (theirs == 0 || theirs * 2 < all) continue;
    if (limits != nullptr && static_cast<double>(all) <= limits->at(timeline.turns[turn].verb)) continue;
    std::int64_t longest = 0;
    for (const auto& [waiter, waited_ns] : waited) longest = std::max(longest, waited_ns);
    verb.longest.push_back(seconds(longest));
  }
  const auto costliest = std::max_element(verbs.begin(), verbs.end(),
                                          [](const auto& a, const auto& b) { return a.second.caused < b.second.caused; });
  if (costliest == verbs.end()) return;
  verdict->verb = costliest->first;
  verdict->num_turns = costliest->second.num_turns;
  verdict->num_turns_led = static_cast<int>(costliest->second.longest.size());
  if (verdict->num_turns_led > 0) verdict->median_seconds = percentile(costliest->second.longest, 50);
}

void find_activity(const Blame& blame, Verdict* verdict) {
  std::map<std::string, std::int64_t> activity;
  std::int64_t all = 0;
  for (const int rank : verdict->ranks) {
    for (const auto& [name, time_ns] : blame.activity_ns[rank]) {
      activity[name] += time_ns;
      all += time_ns;
    }
  }
  for (const auto& [name, time_ns] : activity) {
    const double share = static_cast<double>(time_ns) / static_cast<double>(std::max<std::int64_t>(all, 1));
    if (share <= verdict->activity_share) continue;
    verdict->activity = name;
    verdict->activity_share = share;
  }
}

std::string ranks_text(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : (i + 1 == ranks.size() ? " and " : ", "), ranks[i]);
  }
  return text;
}

std::string turns_text(const Verdict& verdict) {
  const char* plural = verdict.verb == "dispatch" ? "es" : "s";
  return fmt::format("in {} of {} {}{}", verdict.num_turns_led, verdict.num_turns, verdict.verb,
                     verdict.num_turns == 1 ? "" : plural);
}

std::string percent_text(double share) {
  return share > 0 && share < 0.01 ? "less than 1%" : fmt::format("{:.0f}%", share * 100);
}

std::string sentence_of(const Verdict& verdict, const Timeline& timeline) {
  const std::size_t num_others = timeline.ranks.size() - verdict.ranks.size();
  const bool is_one = verdict.ranks.size() == 1;
  std::string names = ranks_text(verdict.ranks);
  const std::string subject = names;
  names[0] = 'R';
  const std::string waited =
      fmt::format("{} waited {} for {} ({} of the time)",
                  num_others == 1 ? "the other rank" : fmt::format("each of the other {} ranks", num_others),
                  duration_text(verdict.waited_seconds), is_one ? "it" : "them", percent_text(verdict.waited_share));
  std::string text;
  if (verdict.lateness == Lateness::kSteady) {
    text = fmt::format("{} {} late: {}, {}, median {}", names, is_one ? "is" : "are", waited, turns_text(verdict),
                       duration_text(verdict.median_seconds));
  } else {
    text = fmt::format("{} {} now and then: {}, {}, median {} there", names, is_one ? "stalls" : "stall", waited,
                       turns_text(verdict), duration_text(verdict.median_seconds));
  }
  const bool is_traced =
      std::all_of(verdict.ranks.begin(), verdict.ranks.end(), [&](int rank) { return timeline.ranks[rank].is_traced; });
  if (!is_traced) return text + fmt::format(". No trace of {} was given, so what it did meanwhile is not known.", subject);
  text += fmt::format("; {} {} waited {}.", subject, is_one ? "itself" : "themselves", duration_text(verdict.own_seconds));
  if (verdict.activity_share < 0.5) return text;
  return text +
         fmt::format(" While others waited, {} {} {} for {} of the time.", is_one ? "it" : "they", is_one ? "was" : "were",
                     verdict.activity.empty() ? "outside of Tokenyard" : fmt::format("in the step \"{}\"", verdict.activity),
                     percent_text(verdict.activity_share));
}

std::string nobody_text(const Verdict& verdict) {
  if (verdict.ranks.empty()) return "Nobody stands out: no rank waited for another.";
  std::string more = fmt::format(", {} of the time", percent_text(verdict.waited_share));
  if (std::isfinite(verdict.lead)) more += fmt::format(" and {:.1f} times what the next one caused", verdict.lead);
  return fmt::format("Nobody stands out: most waiting is due to {}, {} of each other rank{}.", ranks_text(verdict.ranks),
                     duration_text(verdict.waited_seconds), more);
}

}  // namespace

std::string duration_text(double value) {
  if (value >= 0.9995) return fmt::format("{:.{}f} s", value, value < 100 ? 1 : 0);
  if (value >= 0.9995e-3) return fmt::format("{:.{}f} ms", value * 1e3, value < 0.1 ? 1 : 0);
  return fmt::format("{:.{}f} us", value * 1e6, value < 1e-5 ? 1 : 0);
}

Verdict find_late_ranks(const Timeline& timeline, const Blame& blame) {
  Verdict verdict;
  const std::vector<double> caused = caused_by_rank(blame);
  const double all = std::accumulate(caused.begin(), caused.end(), 0.0);
  if (timeline.ranks.size() < 2 || all <= 0) {
    verdict.sentence = nobody_text(verdict);
    return verdict;
  }
  verdict.ranks = worst_ranks(caused);
  const auto num_others = static_cast<double>(timeline.ranks.size() - verdict.ranks.size());
  std::int64_t waited_ns = 0;
  std::int64_t own_ns = 0;
  for (std::size_t waiter = 0; waiter < timeline.ranks.size(); ++waiter) {
    if (is_in(verdict.ranks, static_cast<int>(waiter))) {
      for (const std::int64_t time_ns : blame.caused_ns[waiter]) own_ns += time_ns;
    } else {
      for (const int rank : verdict.ranks) waited_ns += blame.caused_ns[waiter][rank];
    }
  }
  verdict.waited_seconds = seconds(waited_ns) / num_others;
  verdict.own_seconds = seconds(own_ns) / static_cast<double>(verdict.ranks.size());
  verdict.waited_share = verdict.waited_seconds / seconds(active_ns(timeline));
  verdict.lead = lead_of(verdict.ranks, caused);
  find_turns_led(timeline, blame, nullptr, &verdict);
  find_activity(blame, &verdict);

  const std::map<std::string, double> caps = turn_caps(timeline, blame);
  const double usual_lead = lead_of(verdict.ranks, usually_caused(timeline, blame, caps));
  const bool leads_often = verdict.num_turns_led >= least_turns_led(timeline.ranks.size()) * verdict.num_turns;
  if (verdict.lead >= kLead && usual_lead >= kLead && leads_often && verdict.waited_share >= kLeastShare) {
    verdict.lateness = Lateness::kSteady;
  } else if (verdict.lead >= kLeadOfStalls && verdict.waited_share >= kLeastShareOfStalls) {
    const std::map<std::string, double> limits = stall_limits(timeline, blame, caps);
    find_turns_led(timeline, blame, &limits, &verdict);
    if (verdict.num_turns_led >= 2) verdict.lateness = Lateness::kSometimes;
  }
  verdict.sentence = verdict.lateness == Lateness::kNobody ? nobody_text(verdict) : sentence_of(verdict, timeline);
  if (std::isinf(verdict.lead)) verdict.lead = 0;
  return verdict;
}

}  // namespace tokenyard::cli
