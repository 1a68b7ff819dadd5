// Ranks that are processes, and processes that are killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

// A forked rank. The exit status is 0 if the body returned true.
template <class Body>
pid_t fork_rank(Body body) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  int status = 1;
  try {
    status = body() ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "forked rank: %s\n", error.what());
  }
  _exit(status);
}

// The wait status; a process that does not end is killed.
int wait_for_end(pid_t pid) {
  const Deadline deadline(kAmple + 10s);
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (deadline.passed()) kill(pid, SIGKILL);
    std::this_thread::sleep_for(2ms);
  }
  return status;
}

bool gathers(Exchange& exchange) {
  const auto messages = exchange.all_gather(to_bytes(std::to_string(exchange.rank())), kAmple);
  for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
    if (messages[rank] != to_bytes(std::to_string(rank))) return false;
  }
  return true;
}

// Kills one of four ranks that exchange without end; whether every other names it.
void expect_that_the_killed_one_is_named(int victim) {
  const TestListener listener = listen_on_loopback();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < 4; ++rank) {
    pids.push_back(fork_rank([&] {
      if (rank != 0) close(listener.fd);
      const auto exchange = make_tcp_exchange(rendezvous_at(listener, rank, 4));
      const auto error = error_of([&] {
        while (gathers(*exchange)) {
        }
      });
      if (error && error->code() == ErrorCode::kPeerLost && error->failure().culprit == victim) return true;
      std::fprintf(stderr, "rank %d: %s\n", rank, error ? error->what() : "wrong data");
      return false;
    }));
  }
  close(listener.fd);
  std::this_thread::sleep_for(300ms);
  kill(pids[victim], SIGKILL);
  for (int rank = 0; rank < 4; ++rank) {
    const int status = wait_for_end(pids[rank]);
    if (rank == victim) {
      EXPECT_TRUE(WIFSIGNALED(status)) << "the victim ended by itself";
    } else {
      EXPECT_EQ(status, 0) << "rank " << rank;
    }
  }
}

TEST(tcp_processes, meet_as_the_environment_says) {
  const std::uint16_t port = free_port();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < 4; ++rank) {
    pids.push_back(fork_rank([&] {
      setenv("RANK", std::to_string(rank).c_str(), 1);
      setenv("WORLD_SIZE", "4", 1);
      setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
      setenv("MASTER_ADDR", "localhost", 1);
      setenv("MASTER_PORT", "1", 1);
      setenv("TOKENYARD_PORT", std::to_string(port).c_str(), 1);
      const auto exchange = make_tcp_exchange(TcpRendezvous::from_environment());
      return gathers(*exchange) && gathers(*exchange);
    }));
  }
  for (const pid_t pid : pids) EXPECT_EQ(wait_for_end(pid), 0);
}

TEST(tcp_processes, a_killed_rank_is_named_by_all_others) { expect_that_the_killed_one_is_named(2); }

TEST(tcp_processes, a_killed_rank_zero_is_named_by_all_others) { expect_that_the_killed_one_is_named(0); }

TEST(tcp_processes, a_stopped_rank_is_named_by_all_others) {
  const TestListener listener = listen_on_loopback();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < 3; ++rank) {
    pids.push_back(fork_rank([&] {
      if (rank != 0) close(listener.fd);
      const auto exchange = make_tcp_exchange(rendezvous_at(listener, rank, 3));
      exchange->barrier(kAmple);
      if (rank == 1) raise(SIGSTOP);
      const auto error = error_of([&] { exchange->barrier(300ms); });
      return error && error->code() == ErrorCode::kTimeout && error->failure().culprit == 1;
    }));
  }
  close(listener.fd);
  EXPECT_EQ(wait_for_end(pids[0]), 0);
  EXPECT_EQ(wait_for_end(pids[2]), 0);
  kill(pids[1], SIGKILL);
  wait_for_end(pids[1]);
}

TEST(tcp_processes, too_few_descriptors_are_reported_with_the_cure) {
  const TestListener listener = listen_on_loopback();
  const int few = dup(listener.fd) + 3;  // the next three descriptors are the last
  close(few - 3);
  const pid_t rank_zero = fork_rank([&] {
    const rlimit limit{.rlim_cur = static_cast<rlim_t>(few), .rlim_max = static_cast<rlim_t>(few)};
    setrlimit(RLIMIT_NOFILE, &limit);
    const auto error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 9)); });
    return error && error->code() == ErrorCode::kSystem && std::string(error->what()).find("ulimit -n") != std::string::npos;
  });
  close(listener.fd);
  const FileDescriptor joined = join_by_hand(listener.port, 9, 1);
  std::vector<FileDescriptor> more;
  for (int i = 0; i < 3; ++i) more.push_back(connect_stranger(listener.port));
  const auto relayed = verdict_in(receive_all(joined));
  EXPECT_EQ(wait_for_end(rank_zero), 0);
  ASSERT_TRUE(relayed);
  EXPECT_THAT(relayed->text, testing::HasSubstr("Too many open files"));
}

}  // namespace
}  // namespace tokenyard::test
