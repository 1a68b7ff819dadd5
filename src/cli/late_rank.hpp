// Which rank keeps the others waiting, and what speaks for it.
//
// All thresholds are ratios, so they hold for calls of microseconds and of seconds alike.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/blame.hpp"
#include "cli/timeline.hpp"

namespace tokenyard::cli {

enum class Lateness : std::uint8_t {
  kNobody,     // waiting is small, or spread over the ranks
  kSteady,     // the ranks named are late in most turns
  kSometimes,  // they stall in some turns, which make up most of the waiting
};

struct Verdict {
  Lateness lateness = Lateness::kNobody;
  std::vector<int> ranks;     // who is late; for kNobody who came closest, if anybody waited at all
  std::string sentence;       // that says all of this
  std::string verb;           // the kind of turn in which they cost most
  int num_turns_led = 0;      // of that kind, in which most of the waiting was due to them
  int num_turns = 0;          // of that kind
  double waited_seconds = 0;  // because of them, by each other rank on average
  double waited_share = 0;    // of the time from the first call to the last
  double median_seconds = 0;  // of the longest wait for them in each turn led
  double own_seconds = 0;     // that they themselves waited, on average
  double lead = 0;            // how many times more waiting they caused than the next; 0 where nobody comes next
  std::string activity;       // what they did most while others waited: a step, or "" for being outside of any call
  double activity_share = 0;
};

Verdict find_late_ranks(const Timeline& timeline, const Blame& blame);

// "1.3 s", "6.1 ms", "42 us".
std::string duration_text(double seconds);

}  // namespace tokenyard::cli
