// Whom a wait is due to. A rank that keeps others waiting because it itself waits is not the cause: the one at the end of the
// chain is, moment by moment.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/timeline.hpp"

namespace tokenyard::cli {

struct Blame {
  // [waiter][cause]: nanoseconds.
  std::vector<std::vector<std::int64_t>> caused_ns;
  // Where a chain bites its own tail, waiting is nobody's: signals were on their way, or ranks without a core had not seen
  // them.
  std::int64_t nobodys_ns = 0;
  // By turn: what each cause cost whom, as [cause][waiter], only where it is more than nothing.
  std::vector<std::map<int, std::map<int, std::int64_t>>> by_turn;
  // [cause]: while at least one other rank waited because of it, what it did: the name of a step, or "" for outside of any
  // call.
  std::vector<std::map<std::string, std::int64_t>> activity_ns;
};

// Waits while memory is mapped do not count: they belong to the start of the ranks.
bool counts_as_waiting(const Wait& wait);

Blame find_blame(const Timeline& timeline);

}  // namespace tokenyard::cli
