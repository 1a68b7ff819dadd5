#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cli/doctor/examination.hpp"
#include "cli/doctor/finding.hpp"
#include "cli/doctor/merge.hpp"
#include "cli/doctor/page.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/doctor/rank_reports.hpp"
#include "cli/json.hpp"
#include "cli/options.hpp"
#include "cli/start_ranks.hpp"
#include "cli/usage_error.hpp"
#include "tokenyard/error.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kSignalled = 128;  // and the signal's number: the exit code of a process that it killed

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

// The rank of a process whose variables are wrong in some other way, so that one of all prints its page.
int rank_of_variables() {
  for (const char* variable : {"RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"}) {
    if (const char* text = std::getenv(variable)) return std::atoi(text);
  }
  return 0;
}

// The ranks at hand, or why the launcher's variables make none.
struct Ranks {
  RankOptions options;
  std::optional<RankSource> source;
  std::string launcher;
  std::string problem;

  int num_ranks() const { return source ? source->launch.num_ranks : 1; }
  bool are_launched() const { return source && source->started.has_value(); }
  int rank() const {
    if (are_launched()) return source->started->rank;
    return source ? 0 : rank_of_variables();
  }
};

Ranks find_ranks(const DoctorOptions& options) {
  Ranks ranks;
  ranks.options = {.num_ranks = options.num_ranks, .kind = RankKind::kProcesses, .timeout_seconds = options.timeout_seconds};
  ranks.launcher = TcpRendezvous::launcher_from_environment();
  try {
    ranks.source = choose_ranks(ranks.options, DoctorOptions::kDefaultRanks);
  } catch (const Error& error) {
    ranks.problem = error.what();
  }
  return ranks;
}

Findings probe(const Ranks& ranks) {
  const bool is_local = !ranks.are_launched();
  const RankPlace place{.num_ranks = ranks.num_ranks(),
                        .num_ranks_of_host = is_local ? ranks.num_ranks() : 1,
                        .leads_host = is_local || ranks.source->started->local_rank == 0};
  Findings findings;
  if (place.leads_host) {
    for (const auto& probe_host : {probe_software, probe_processors}) append(findings, probe_host());
  }
  append(findings, probe_cores(place));
  if (place.leads_host) append(findings, probe_memory());
  append(findings, probe_limits(place));
  if (place.leads_host) {
    for (const auto& probe_host : {probe_sharing, probe_gpus, probe_network}) append(findings, probe_host());
  }
  Findings secret = probe_secret();
  append(findings, probe_rendezvous({.launcher = ranks.launcher,
                                     .launched = is_local ? std::nullopt : ranks.source->started,
                                     .problem = ranks.problem,
                                     .is_secret_wrong = count(secret, Verdict::kFailure) > 0,
                                     .num_own_ranks = ranks.num_ranks()}));
  append(findings, std::move(secret));
  return findings;
}

ExaminationOptions examination_options(const DoctorOptions& options, const Ranks& ranks) {
  return {.num_ranks = ranks.num_ranks(),
          .timeout = ranks.options.timeout(),
          .self_test_limit = std::chrono::milliseconds(static_cast<std::int64_t>(options.seconds * 1000)),
          .self_test = options.self_test,
          .by_launcher = ranks.are_launched(),
          .find_process = {}};
}

// `exit_code` is 0 where it is not known.
Findings without_report(int rank, const RankProcess& process, int exit_code) {
  SectionFindings findings(Section::kSelfTest);
  findings.failure("self-test", name_of(rank, process) + " has ended without a word",
                   exit_code > kSignalled
                       ? fmt::format("killed by signal {} ({})", exit_code - kSignalled, sigdescr_np(exit_code - kSignalled))
                       : std::string("it was killed, or stopped and then ended"),
                   "its own output says why; where it says nothing: dmesg | grep -i 'killed process' (out of memory), "
                   "coredumpctl; illegal instruction: this build is for another processor");
  return findings.take();
}

// Signals by which people and their systems end a program.
bool is_request_to_end(int exit_code) {
  return exit_code == kSignalled + SIGINT || exit_code == kSignalled + SIGTERM || exit_code == kSignalled + SIGHUP;
}

// Starts ranks as children of this process. Nothing if somebody has asked the program to end meanwhile.
std::optional<Findings> examine_own_ranks(const DoctorOptions& options, const Ranks& ranks) {
  const RankReports reports(ranks.num_ranks());
  const auto find_process = [&](int rank) { return RankProcess{.host = host_name(), .process = reports.process_of(rank)}; };
  ExaminationOptions examination = examination_options(options, ranks);
  examination.find_process = find_process;
  const int exit_code = launch_joining_ranks(ranks.source->launch, [&](int rank, const JoinRanks& join) {
    reports.announce(rank);
    const Findings findings = examine_ranks(examination, join).findings;
    reports.write(rank, to_text(findings));
    return count(findings, Verdict::kFailure) == 0 ? 0 : 1;
  });

  std::vector<Findings> by_rank(static_cast<std::size_t>(ranks.num_ranks()));
  std::vector<int> silent;
  int num_failures = 0;
  for (int rank = 0; rank < ranks.num_ranks(); ++rank) {
    const std::optional<std::string> report = reports.read(rank);
    if (report) {
      by_rank[static_cast<std::size_t>(rank)] = from_text(*report);
    } else {
      silent.push_back(rank);
    }
    num_failures += count(by_rank[static_cast<std::size_t>(rank)], Verdict::kFailure);
  }
  if (std::ssize(silent) == ranks.num_ranks() && is_request_to_end(exit_code)) return std::nullopt;
  // Where others have named the silent, and what became of them, there is nothing to add.
  if (num_failures == 0) {
    for (const int rank : silent) {
      // The exit code is that of the first of them, since all others have done well.
      by_rank[static_cast<std::size_t>(rank)] = without_report(rank, find_process(rank), rank == silent[0] ? exit_code : 0);
    }
  }
  return merge(by_rank);
}

// Collective where the ranks have met: everybody's findings on rank 0, this rank's own elsewhere.
Findings gather_findings(const Examination& examination, Findings own, std::chrono::milliseconds timeout) {
  if (!examination.exchange) return merge({own});
  const std::string text = to_text(own);
  try {
    const auto texts = examination.exchange->all_gather(std::as_bytes(std::span(text)), timeout);
    if (examination.exchange->rank() != 0) return merge({own});
    std::vector<Findings> by_rank;
    for (const std::vector<std::byte>& other : texts)
      by_rank.push_back(from_text({reinterpret_cast<const char*>(other.data()), other.size()}));
    return merge(by_rank);
  } catch (const Error& error) {
    // Where the examination has failed, its last line says more than that nobody answers now.
    if (count(examination.findings, Verdict::kFailure) > 0) return merge({own});
    SectionFindings findings(Section::kRanks);
    findings.failure("gathering", error.what(), "the other ranks' findings are not on this page",
                     "look at the other ranks' output");
    append(own, findings.take());
    return merge({own});
  }
}

struct Examined {
  Findings findings;
  bool is_alone = false;  // this rank speaks for itself only
};

Examined examine_launched_rank(const DoctorOptions& options, const Ranks& ranks, Findings own) {
  Examination examination;
  // What is known to be wrong with the way to rank 0 is no better after a deadline.
  const bool is_cut_off = std::any_of(own.begin(), own.end(), [](const Finding& finding) {
    return finding.section == Section::kRendezvous && finding.verdict == Verdict::kFailure;
  });
  if (!is_cut_off) {
    examination = examine_ranks(examination_options(options, ranks), [&] { return make_tcp_exchange(*ranks.source->started); });
  }
  append(own, examination.findings);
  const bool has_met = examination.exchange != nullptr;
  return {.findings = gather_findings(examination, std::move(own), ranks.options.timeout()), .is_alone = !has_met};
}

void print_json(const Findings& findings, const Ranks& ranks) {
  const Record header{{"version", version()},
                      {"wire_version", kWireVersion},
                      {"host", host_name()},
                      {"time", time_text()},
                      {"ranks", ranks.num_ranks()},
                      {"ok", count(findings, Verdict::kFailure) == 0},
                      {"failures", count(findings, Verdict::kFailure)},
                      {"warnings", count(findings, Verdict::kWarning)}};
  std::fputs(to_json(header, "findings", to_records(findings)).c_str(), stdout);
}

void print_page(const Findings& findings, const Ranks& ranks) {
  const bool is_colored = wants_color();
  std::string page = fmt::format("tokenyard doctor on {}, {}, {} rank{}\n\n", host_name(), time_text(), ranks.num_ranks(),
                                 ranks.num_ranks() == 1 ? "" : "s");
  page += to_page(findings, is_colored, page_width()) + "\n" + to_conclusion(findings, is_colored);
  std::fputs(page.c_str(), stdout);
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
  setenv("TOKENYARD_LOG", "warning", 0);  // the page has what the lines below that level say
  const Ranks ranks = find_ranks(options);
  Findings findings = probe(ranks);
  bool is_speaker_told = false;  // of all that this rank has found
  if (ranks.are_launched()) {
    Examined examined = examine_launched_rank(options, ranks, std::move(findings));
    findings = std::move(examined.findings);
    is_speaker_told = !examined.is_alone && count(findings, Verdict::kFailure) == 0;
  } else if (ranks.source && options.self_test) {
    std::optional<Findings> examined = examine_own_ranks(options, ranks);
    if (!examined) return 1;
    append(findings, *std::move(examined));
  }
  if (ranks.rank() != 0) {
    if (!is_speaker_told) std::fputs(to_complaints(findings, ranks.rank()).c_str(), stderr);
  } else if (options.json) {
    print_json(findings, ranks);
  } else {
    print_page(findings, ranks);
  }
  return count(findings, Verdict::kFailure) == 0 ? 0 : 1;
}

}  // namespace tokenyard::cli
