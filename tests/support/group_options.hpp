// Options for groups in tests: ranks share few cores with each other and with other tests, so they yield.
#pragma once

#include "tokenyard/group.hpp"

namespace tokenyard::test {

inline GroupOptions patient(std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
  GroupOptions options;
  options.timeout = timeout;
  options.waiting = Waiting::kYield;
  return options;
}

}  // namespace tokenyard::test
