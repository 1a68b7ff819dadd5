#include "cli/doctor/merge.hpp"

#include <algorithm>
#include <utility>

#include "cli/doctor/number_ranges.hpp"

namespace tokenyard::cli {
namespace {

struct Line {
  Finding finding;
  std::vector<int> ranks;
};

bool is_well(const Finding& finding) { return finding.verdict == Verdict::kOk || finding.verdict == Verdict::kNotApplicable; }

bool are_about_the_same(const Finding& one, const Finding& other) {
  return one.section == other.section && one.name == other.name;
}

bool are_one_line(const Finding& one, const Finding& other) {
  if (!are_about_the_same(one, other) || one.verdict != other.verdict) return false;
  return is_well(one) || (one.value == other.value && one.cure == other.cure);
}

void add(std::vector<Line>& lines, const Finding& finding, int rank) {
  const auto same =
      std::find_if(lines.begin(), lines.end(), [&](const Line& line) { return are_one_line(line.finding, finding); });
  if (same != lines.end()) {
    same->ranks.push_back(rank);
    if (!is_well(finding) && finding.why.size() > same->finding.why.size()) same->finding.why = finding.why;
    return;
  }
  // Behind the last line about the same thing, so that they stand together.
  const auto last =
      std::find_if(lines.rbegin(), lines.rend(), [&](const Line& line) { return are_about_the_same(line.finding, finding); });
  lines.insert(last == lines.rend() ? lines.end() : last.base(), {.finding = finding, .ranks = {rank}});
}

}  // namespace

Findings merge(const std::vector<Findings>& by_rank) {
  std::vector<Line> lines;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (const Finding& finding : by_rank[rank]) add(lines, finding, static_cast<int>(rank));
  }
  Findings merged;
  for (Line& line : lines) {
    const bool has_others = std::any_of(lines.begin(), lines.end(), [&](const Line& other) {
      return &other != &line && are_about_the_same(other.finding, line.finding);
    });
    const bool is_from_all = line.ranks.size() == by_rank.size();
    if (has_others || (!is_from_all && !is_well(line.finding))) line.finding.ranks = to_ranges(line.ranks);
    merged.push_back(std::move(line.finding));
  }
  std::stable_sort(merged.begin(), merged.end(),
                   [](const Finding& one, const Finding& other) { return one.section < other.section; });
  return merged;
}

}  // namespace tokenyard::cli
