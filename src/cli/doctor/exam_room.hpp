// What the steps of an examination work with.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "base/deadline.hpp"
#include "cli/doctor/finding.hpp"
#include "cli/doctor/rank_process.hpp"
#include "cli/progress.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {

struct ExamRoom {
  std::shared_ptr<Exchange> exchange;
  std::chrono::milliseconds timeout;  // of every wait
  Deadline end;                       // of the self-test
  bool by_launcher;
  std::vector<RankProcess> processes;  // by rank
  int num_hosts = 1;
  std::optional<Group> group;        // once it has been made
  std::optional<Progress> progress;  // on rank 0

  int rank() const { return exchange->rank(); }
  int num_ranks() const { return exchange->num_ranks(); }
  void advance() {
    if (progress) progress->advance();
  }
};

// Steps, in the order in which they run. All are collective and blocking, throw Error where ranks fail each other, and add the
// same findings on all ranks.
void examine_hosts(ExamRoom& room, SectionFindings& findings);
void examine_clocks(ExamRoom& room, SectionFindings& findings);
void examine_pace(ExamRoom& room, SectionFindings& findings);
void test_group(ExamRoom& room, SectionFindings& findings);  // makes room.group, or leaves it empty where there can be none
void test_window(ExamRoom& room, SectionFindings& findings);
void test_pairs(ExamRoom& room, SectionFindings& findings);
void test_shapes(ExamRoom& room, SectionFindings& findings);

// For the progress line.
int num_tested_pairs(int num_ranks);
int num_tested_shapes();

}  // namespace tokenyard::cli
