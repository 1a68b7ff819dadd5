// What the ranks of a group did, put together from their traces on one clock.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/trace_events.hpp"

namespace tokenyard::cli {

// A dispatch, combine or barrier that all ranks take part in.
struct TurnKey {
  std::string verb;  // "dispatch", "combine" or "barrier"
  int plan = -1;
  int slot = -1;
  int generation = 0;
  std::int64_t number = 0;

  friend auto operator<=>(const TurnKey&, const TurnKey&) = default;
};

// Times are nanoseconds since the first event of the group.
struct Span {
  std::string name;
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  int thread = 0;

  std::int64_t duration_ns() const { return end_ns - begin_ns; }
};

struct Call : Span {
  int turn_idx = -1;  // of Timeline::turns
};

struct Step : Span {
  std::string verb;        // of its call
  std::vector<Sent> sent;  // by destination
};

struct Wait : Span {  // the name is the phase
  int peer = -1;
  int turn_idx = -1;
};

struct RankTimeline {
  bool is_traced = false;
  std::string host;
  std::int64_t process = 0;
  std::vector<Call> calls;  // each in the order of its beginnings
  std::vector<Step> steps;
  std::vector<Wait> waits;
};

struct Timeline {
  std::string group;
  std::vector<RankTimeline> ranks;
  std::vector<TurnKey> turns;
  std::int64_t span_ns = 0;         // from the first event to the last
  bool has_several_clocks = false;  // times of different hosts are compared by their wall clocks
};

// A file's events and its name, for errors.
struct NamedTrace {
  std::string path;
  TraceEvents events;
};

// A timeline for each group in the files; the one with the most spans first. A barrier counts as waiting for the last rank that
// entered it. Throws Error(kInvalidArgument) where two files tell of the same rank at the same time.
std::vector<Timeline> make_timelines(const std::vector<NamedTrace>& traces);

}  // namespace tokenyard::cli
