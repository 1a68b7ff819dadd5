// Options for groups in tests: ranks share few cores with each other and with other tests, so they yield.
#pragma once

#include "tests/support/ample_time.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {

inline GroupOptions patient(std::chrono::milliseconds timeout = ample_time()) {
  GroupOptions options;
  options.timeout = timeout;
  options.waiting = Waiting::kYield;
  return options;
}

}  // namespace tokenyard::test
