// The text of a trace file, written by hand.
#pragma once

#include <fmt/core.h>

#include <string>

namespace tokenyard::cli {

// A rank of 2 that waits for the other one in 10 dispatches of 1 ms, at times of its own clock.
struct TraceText {
  int rank = 0;
  std::string host = "alpha";
  std::string clock = "alpha/1";
  std::int64_t realtime_offset_ns = 0;
  std::int64_t first_us = 1'000'000;
  std::int64_t arrival_us = 0;  // in each turn
  std::int64_t waited_us = 0;   // from then on
  std::string group = "00c0ffee00c0ffee";

  std::string text() const {
    std::string lines = fmt::format(
        R"([
{{"name":"process_name","ph":"M","pid":{0},"tid":0,"args":{{"name":"rank {0} of 2"}}}},
{{"name":"tokenyard_rank","ph":"M","pid":{0},"tid":0,"args":{{"version":"0.1.0","group":"{1}","rank":{0},"num_ranks":2,"host":"{2}","process":7,"clock":"{3}","realtime_offset_ns":{4}}}}})",
        rank, group, host, clock, realtime_offset_ns);
    for (int turn = 0; turn < 10; ++turn) {
      const std::int64_t begin_us = first_us + turn * 1000 + arrival_us;
      if (waited_us > 0) {
        lines += fmt::format(
            ",\n"
            R"({{"name":"wait for rank {0}","cat":"wait","ph":"X","ts":{1}.000,"dur":{2}.000,"pid":{3},"tid":7,"args":{{"peer":{0},"phase":"dispatch/counts"}}}})",
            1 - rank, begin_us, waited_us, rank);
      }
      lines += fmt::format(
          ",\n"
          R"({{"name":"push","cat":"step","ph":"X","ts":{0}.000,"dur":20.000,"pid":{1},"tid":7,"args":{{"to":[[0,3,300],[1,5,500]]}}}},)"
          "\n"
          R"({{"name":"begin dispatch","cat":"call","ph":"X","ts":{2}.000,"dur":{3}.000,"pid":{1},"tid":7,"args":{{"plan":0,"slot":{4},"turn":{5},"generation":1}}}})",
          begin_us + waited_us, rank, begin_us, waited_us + 30, turn % 2, turn / 2 + 1);
    }
    return lines + "\n]\n";
  }
};

}  // namespace tokenyard::cli
