#include "cli/start_ranks.hpp"

#include <fmt/core.h>

#include <cstdlib>

#include "cli/usage_error.hpp"

namespace tokenyard::cli {

std::string RankSource::description() const {
  if (started) return fmt::format("{} processes, started with RANK and WORLD_SIZE set", launch.num_ranks);
  return fmt::format("{} {}", launch.num_ranks,
                     launch.kind == RankKind::kThreads ? "threads of one process" : "processes of this host");
}

RankSource choose_ranks(const RankOptions& options, int default_num_ranks) {
  RankSource source;
  source.launch = {
      .num_ranks = options.num_ranks.value_or(default_num_ranks), .kind = options.kind, .timeout = options.timeout()};
  if (std::getenv("RANK") == nullptr && std::getenv("WORLD_SIZE") == nullptr) return source;

  source.started = TcpRendezvous::from_environment();
  source.started->timeout = options.timeout();
  if (options.num_ranks && *options.num_ranks != source.started->num_ranks) {
    throw UsageError(
        fmt::format("--ranks {} contradicts WORLD_SIZE={}: drop one of them", *options.num_ranks, source.started->num_ranks));
  }
  if (options.kind == RankKind::kThreads) {
    throw UsageError("--threads contradicts RANK and WORLD_SIZE, by which this process is one rank of several: unset them");
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
