#include "cli/doctor/examination.hpp"

#include <fmt/core.h>

#include <string>
#include <vector>

#include "cli/doctor/exam_room.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

struct Step {
  Section section;
  const char* name;  // of the line that says how it failed
  void (*run)(ExamRoom& room, SectionFindings& findings);
};

constexpr Step kHosts{Section::kRanks, "hosts", examine_hosts};
constexpr Step kClocks{Section::kRanks, "clocks", examine_clocks};
constexpr Step kPace{Section::kRanks, "pace", examine_pace};
constexpr Step kGroup{Section::kSelfTest, "group", test_group};
constexpr Step kWindow{Section::kSelfTest, "window", test_window};
constexpr Step kPairs{Section::kSelfTest, "pairs", test_pairs};
constexpr Step kShapes{Section::kSelfTest, "shapes", test_shapes};

constexpr int kNumSteps = 7;

// Returns whether the next step makes sense.
bool take(const Step& step, ExamRoom& room, Findings& findings) {
  SectionFindings own(step.section);
  bool is_over = false;
  try {
    step.run(room, own);
  } catch (const std::exception& error) {
    report_error(own, step.name, error, room.rank(), room.processes);
    is_over = true;
  }
  append(findings, own.take());
  room.advance();
  return !is_over;
}

void examine(ExamRoom& room, bool self_test, Findings& findings) {
  if (!take(kHosts, room, findings) || !take(kClocks, room, findings) || !self_test) return;
  if (!take(kPace, room, findings) || !take(kGroup, room, findings) || !room.group) return;
  for (const Step& step : {kWindow, kPairs, kShapes}) {
    if (!take(step, room, findings)) return;
  }
}

std::vector<RankProcess> find_processes(const ExaminationOptions& options) {
  std::vector<RankProcess> processes;
  for (int rank = 0; rank < options.num_ranks; ++rank) {
    processes.push_back(options.find_process ? options.find_process(rank) : RankProcess{});
  }
  return processes;
}

// Rank 0 is blamed by everybody who does not reach it; only what is known of the processes tells who is at fault.
void report_meeting(SectionFindings& findings, const std::exception& error, const std::vector<RankProcess>& processes,
                    const ExaminationOptions& options) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const int culprit = known == nullptr ? -1 : known->failure().culprit;
  if (!options.by_launcher && culprit >= 0 && processes.at(static_cast<std::size_t>(culprit)).process > 0) {
    report_error(findings, "meeting", error, known->failure().reporter, processes);
    return;
  }
  const ErrorCode code = known == nullptr ? ErrorCode::kSystem : known->code();
  const char* cure = "follow the text; docs/troubleshooting.md explains it";
  if (code == ErrorCode::kTimeout) {
    cure =
        "start all ranks, with one secret; look at the output of those that are missing; let the port through the firewall "
        "between the hosts (nc -vz HOST PORT from theirs while rank 0 waits); where ranks start slowly, --timeout SECONDS";
  } else if (code == ErrorCode::kDisagreement) {
    cure =
        "a port for this job alone: TOKENYARD_PORT, the same for all ranks; and one secret, one version and one number of "
        "ranks";
  }
  findings.failure("meeting", fmt::format("the ranks have not met ({})", to_string(code)), error.what(), cure);
}

std::shared_ptr<Exchange> meet(const ExaminationOptions& options, const JoinRanks& join, Findings& findings) {
  SectionFindings own(Section::kRanks);
  std::shared_ptr<Exchange> exchange;
  const Deadline::Clock::time_point start = Deadline::Clock::now();
  try {
    exchange = join();
    const std::chrono::duration<double, std::milli> taken = Deadline::Clock::now() - start;
    own.ok("meeting",
           fmt::format("{} rank{} met in {:.0f} ms", options.num_ranks, options.num_ranks == 1 ? "" : "s", taken.count()));
  } catch (const std::exception& error) {
    report_meeting(own, error, find_processes(options), options);
  }
  append(findings, own.take());
  return exchange;
}

}  // namespace

Examination examine_ranks(const ExaminationOptions& options, const JoinRanks& join) {
  Examination result;
  result.exchange = meet(options, join, result.findings);
  if (!result.exchange) return result;
  ExamRoom room{.exchange = result.exchange,
                .timeout = options.timeout,
                .end = Deadline(options.self_test_limit),
                .by_launcher = options.by_launcher,
                .processes = find_processes(options),
                .num_hosts = 1,
                .group = {},
                .progress = {}};
  if (room.rank() == 0 && options.self_test)
    room.progress.emplace("self-test", kNumSteps + num_tested_pairs(options.num_ranks) + num_tested_shapes());
  examine(room, options.self_test, result.findings);
  return result;
}

}  // namespace tokenyard::cli
