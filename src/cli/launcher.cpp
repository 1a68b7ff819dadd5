#include "cli/launcher.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/child_processes.hpp"
#include "cli/loopback_listener.hpp"

namespace tokenyard::cli {
namespace {

// Beyond the ranks' own deadline, which may begin a moment after a peer has failed.
constexpr std::chrono::milliseconds kMargin{2'000};

int first_failure(const std::vector<int>& exit_codes) {
  const auto failed = std::find_if(exit_codes.begin(), exit_codes.end(), [](int code) { return code != 0; });
  return failed == exit_codes.end() ? 0 : *failed;
}

int launch_threads(const Launch& launch, const JoiningBody& body) {
  std::vector<std::shared_ptr<Exchange>> exchanges = make_thread_exchange(launch.num_ranks);
  std::vector<int> exit_codes(exchanges.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < exchanges.size(); ++rank) {
    threads.emplace_back([&, rank] {
      const JoinRanks join = [&] { return std::move(exchanges[rank]); };
      exit_codes[rank] = run_reporting(static_cast<int>(rank), [&] { return body(static_cast<int>(rank), join); });
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first_failure(exit_codes);
}

int launch_processes(const Launch& launch, const JoiningBody& body) {
  LoopbackListener listener = LoopbackListener::open(launch.num_ranks);
  ChildProcesses children(launch.timeout + kMargin);
  for (int rank = 0; rank < launch.num_ranks; ++rank) {
    children.start([&, rank] {
      return run_reporting(rank, [&] {
        TcpRendezvous rendezvous;
        rendezvous.port = listener.port();
        rendezvous.rank = rank;
        rendezvous.num_ranks = launch.num_ranks;
        rendezvous.local_rank = rank;
        rendezvous.timeout = launch.timeout;
        if (rank == 0) rendezvous.listen_fd = listener.release();
        listener.close();
        return body(rank, [&] { return make_tcp_exchange(rendezvous); });
      });
    });
  }
  listener.close();
  return first_failure(children.wait());
}

}  // namespace

int run_reporting(int rank, const std::function<int()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    // One write, so that the lines of several ranks do not mix.
    const std::string line = fmt::format("tokenyard [rank {}]: {}\n", rank, error.what());
    std::fwrite(line.data(), 1, line.size(), stderr);
    return 1;
  }
}

int launch_ranks(const Launch& launch, const RankBody& body) {
  return launch_joining_ranks(launch, [&](int /*rank*/, const JoinRanks& join) { return body(join()); });
}

int launch_joining_ranks(const Launch& launch, const JoiningBody& body) {
  return launch.kind == RankKind::kThreads ? launch_threads(launch, body) : launch_processes(launch, body);
}

}  // namespace tokenyard::cli
