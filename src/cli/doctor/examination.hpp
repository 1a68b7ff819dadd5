// What ranks find out together.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "cli/doctor/finding.hpp"
#include "cli/doctor/rank_process.hpp"
#include "cli/launcher.hpp"

namespace tokenyard::cli {

struct ExaminationOptions {
  int num_ranks = 1;
  std::chrono::milliseconds timeout{20'000};  // of every wait
  std::chrono::milliseconds self_test_limit{60'000};
  bool self_test = true;
  bool by_launcher = false;  // ranks may have different cores, hosts and clocks
  // Where a rank runs, as far as this is known before they have met.
  std::function<RankProcess(int rank)> find_process;
};

struct Examination {
  Findings findings;
  std::shared_ptr<Exchange> exchange;  // unless the ranks have not met, or lost each other
};

// Collective, blocking: the ranks meet and examine their hosts, clocks and, with `self_test`, the library. Never throws: the
// first error ends the examination on each rank that it reaches, and is its last finding. The self-test begins nothing new once
// its limit has passed.
Examination examine_ranks(const ExaminationOptions& options, const JoinRanks& join);

}  // namespace tokenyard::cli
