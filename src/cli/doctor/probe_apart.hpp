// A probe that may hang or crash, because it calls into somebody else's code: a driver, a resolver.
#pragma once

#include <chrono>
#include <functional>

#include "cli/doctor/finding.hpp"

namespace tokenyard::cli {

// What became of the probe's process where it has not answered: "no answer within 20000 ms", "killed by signal 11 (...)".
using FindingsOfLoss = std::function<Findings(const std::string& loss)>;

// Runs `probe` in a process of its own and returns what it found. Where that process ends without an answer, or does not answer
// within `timeout`, it is killed and `if_lost` says what this means. Only while this process has a single thread.
Findings probe_apart(const std::function<Findings()>& probe, std::chrono::milliseconds timeout, const FindingsOfLoss& if_lost);

}  // namespace tokenyard::cli
