// The events of a trace file: Chrome's trace-event format, also where its end is missing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tokenyard::cli {

struct Sent {
  int peer = -1;
  std::int64_t num_rows = 0;
  std::int64_t num_bytes = 0;
};

// A span of one thread of one rank.
struct TracedSpan {
  enum class Kind : std::uint8_t { kCall, kStep, kWait };

  Kind kind = Kind::kCall;
  std::string name;           // of waits, the phase
  std::int64_t begin_ns = 0;  // of the process's steady clock
  std::int64_t end_ns = 0;
  int pid = 0;  // which of the file's ranks
  int thread = 0;
  int peer = -1;  // waits
  int plan = -1;  // calls; -1: of no plan
  int slot = -1;
  int generation = 0;
  std::int64_t turn = 0;
  std::vector<Sent> sent;  // steps
};

// Which rank a pid of the file stands for.
struct TracedRank {
  int pid = 0;
  std::string group;
  int rank = 0;
  int num_ranks = 1;
  std::string host;
  std::int64_t process = 0;
  std::string clock;  // equal where steady clocks can be compared
  std::int64_t realtime_offset_ns = 0;
};

struct TraceEvents {
  std::vector<TracedRank> ranks;
  std::vector<TracedSpan> spans;
  std::int64_t num_dropped = 0;
  bool is_cut_short = false;  // the file ends in the middle; what stands before that is here
};

// Throws Error(kInvalidArgument), with `path` in it, if this is no trace that Tokenyard wrote.
TraceEvents parse_trace(std::string_view text, const std::string& path);

}  // namespace tokenyard::cli
