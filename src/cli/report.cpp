#include <fmt/core.h>

#include <cstdio>
#include <fstream>
#include <vector>

#include "base/fail.hpp"
#include "cli/options.hpp"
#include "cli/report_page.hpp"
#include "cli/report_summary.hpp"
#include "cli/text.hpp"

namespace tokenyard::cli {
namespace {

// A page of hundreds of groups, such as a test suite makes, would be of no use.
constexpr std::size_t kMostGroups = 8;

std::vector<NamedTrace> read_traces(const std::vector<std::string>& paths) {
  std::vector<NamedTrace> traces;
  for (const std::string& path : paths) traces.push_back({path, parse_trace(read_text_file(path), path)});
  return traces;
}

std::vector<std::string> notes_on(const std::vector<NamedTrace>& traces) {
  std::vector<std::string> notes;
  for (const NamedTrace& trace : traces) {
    if (trace.events.is_cut_short) {
      notes.push_back(
          fmt::format("{} ends in the middle: its process was ended, or the file is still being written.", trace.path));
    }
    if (trace.events.num_dropped > 0) {
      notes.push_back(fmt::format("{} lacks {} events: they came faster than they could be written.", trace.path,
                                  trace.events.num_dropped));
    }
  }
  return notes;
}

void add_notes_on(const Timeline& timeline, std::vector<std::string>* notes) {
  std::string untraced;
  int num_untraced = 0;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    if (timeline.ranks[rank].is_traced) continue;
    if (++num_untraced <= 8) untraced += fmt::format("{}{}", untraced.empty() ? "" : ", ", rank);
  }
  if (num_untraced > 0) {
    notes->push_back(fmt::format(
        "No trace of {} {}{} was given: where others wait for {}, it is not known why.", num_untraced == 1 ? "rank" : "ranks",
        untraced, num_untraced > 8 ? fmt::format(" and {} more", num_untraced - 8) : "", num_untraced == 1 ? "it" : "them"));
  }
  if (timeline.has_several_clocks) {
    notes->push_back(
        "The ranks ran on several hosts, whose wall clocks put their times in order: what is shorter than the difference of "
        "these "
        "clocks may be blamed on the wrong rank.");
  }
}

void add_note_on(const Blame& blame, std::vector<std::string>* notes) {
  std::int64_t caused_ns = 0;
  for (const auto& row : blame.caused_ns) {
    for (const std::int64_t time_ns : row) caused_ns += time_ns;
  }
  const double all_ns = static_cast<double>(caused_ns) + static_cast<double>(blame.nobodys_ns);
  constexpr double kNoteworthy = 0.2;
  if (static_cast<double>(blame.nobodys_ns) <= kNoteworthy * all_ns) return;
  notes->push_back(
      fmt::format("{:.0f}% of the waiting is due to no rank: they waited for each other at the same time. Signals were on "
                  "their way, or there "
                  "were more busy threads than cores and the ranks had not seen them yet.",
                  static_cast<double>(blame.nobodys_ns) / all_ns * 100));
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) fail(ErrorCode::kSystem, "cannot write the page {}: is its folder there, and may you write to it?", path);
}

}  // namespace

int run_report(const ReportOptions& options) {
  const std::vector<NamedTrace> traces = read_traces(options.trace_paths);
  std::vector<Timeline> timelines = make_timelines(traces);
  ReportHeader header{options.trace_paths, notes_on(traces), static_cast<int>(timelines.size())};
  if (timelines.size() > kMostGroups) {
    header.notes.push_back(
        fmt::format("The files tell of {} groups; the {} with the most events are shown.", timelines.size(), kMostGroups));
    timelines.resize(kMostGroups);
  }
  std::vector<GroupReport> groups;
  for (Timeline& timeline : timelines) {
    Blame blame = find_blame(timeline);
    if (groups.empty()) {
      add_notes_on(timeline, &header.notes);
      add_note_on(blame, &header.notes);
    }
    Verdict verdict = find_late_ranks(timeline, blame);
    groups.push_back({std::move(timeline), std::move(blame), std::move(verdict)});
  }
  const std::string& sentence = groups.front().verdict.sentence;
  const std::string page_path = !options.page_path.empty() ? options.page_path : options.json ? "" : kDefaultPage;
  if (!page_path.empty()) write_file(page_path, report_page(sentence, report_json(header, groups, JsonStyle::kDense)));
  if (options.json) {
    fmt::print("{}\n", report_json(header, groups, JsonStyle::kIndented));
    return 0;
  }
  for (const std::string& note : header.notes) fmt::print("note: {}\n", note);
  fmt::print("{}\n", sentence);
  fmt::print("The page is {}\n", page_path);
  return 0;
}

}  // namespace tokenyard::cli
