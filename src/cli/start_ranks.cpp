#include "cli/start_ranks.hpp"

#include <fmt/core.h>

#include "cli/usage_error.hpp"

namespace tokenyard::cli {

std::string RankSource::description() const {
  if (started) return fmt::format("{} processes, by the variables of {}", launch.num_ranks, launcher);
  return fmt::format("{} {}", launch.num_ranks,
                     launch.kind == RankKind::kThreads ? "threads of one process" : "processes of this host");
}

RankSource choose_ranks(const RankOptions& options, int default_num_ranks, RankKind default_kind) {
  RankSource source;
  source.launch = {.num_ranks = options.num_ranks.value_or(default_num_ranks),
                   .kind = options.kind.value_or(default_kind),
                   .timeout = options.timeout()};
  source.launcher = TcpRendezvous::launcher_from_environment();
  if (source.launcher.empty()) return source;

  source.started = TcpRendezvous::from_environment();
  source.started->timeout = options.timeout();
  if (options.num_ranks && *options.num_ranks != source.started->num_ranks) {
    throw UsageError(fmt::format("--ranks {} contradicts the variables of {}, by which there are {}: drop one of them",
                                 *options.num_ranks, source.launcher, source.started->num_ranks));
  }
  if (options.kind == RankKind::kThreads) {
    throw UsageError(fmt::format(
        "--threads contradicts the variables of {}, by which this process is one rank: drop one of them", source.launcher));
  }
  source.launch.num_ranks = source.started->num_ranks;
  return source;
}

int start_ranks(const RankSource& source, const RankBody& body) {
  if (!source.started) return launch_ranks(source.launch, body);
  const TcpRendezvous& rendezvous = *source.started;
  fmt::print(stderr, "tokenyard: this is rank {} of {} (local rank {}); rank 0 is at {} port {}\n", rendezvous.rank,
             rendezvous.num_ranks, rendezvous.local_rank, rendezvous.address, rendezvous.port);
  return run_reporting(rendezvous.rank, [&] { return body(make_tcp_exchange(rendezvous)); });
}

}  // namespace tokenyard::cli
