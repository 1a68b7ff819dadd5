// Ranks that find each other by TCP, or say why they cannot.
#include <arpa/inet.h>
#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "exchange/listener.hpp"
#include "exchange/socket_address.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TcpRendezvous rendezvous_without_listener(const std::string& address, std::uint16_t port, int rank, int num_ranks,
                                          std::chrono::milliseconds timeout = kAmple) {
  TcpRendezvous rendezvous;
  rendezvous.address = address;
  rendezvous.port = port;
  rendezvous.rank = rank;
  rendezvous.num_ranks = num_ranks;
  rendezvous.timeout = timeout;
  return rendezvous;
}

void expect_meeting_at(const std::string& address, const std::string& secret = {}) {
  const std::uint16_t port = free_port();
  run_ranks(3, [&](int rank) {
    TcpRendezvous rendezvous = rendezvous_without_listener(address, port, rank, 3);
    rendezvous.secret = secret;
    const auto exchange = make_tcp_exchange(rendezvous);
    const auto messages = exchange->all_gather(to_bytes(std::to_string(rank)), kAmple);
    for (int source = 0; source < 3; ++source) ASSERT_EQ(messages[source], to_bytes(std::to_string(source)));
  });
}

int num_open_descriptors() {
  int count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

TEST(tcp_rendezvous, ranks_meet_at_ipv4) { expect_meeting_at("127.0.0.1"); }

TEST(tcp_rendezvous, ranks_meet_at_a_name) { expect_meeting_at("localhost"); }

TEST(tcp_rendezvous, ranks_that_share_a_secret_meet_on_all_interfaces) { expect_meeting_at("0.0.0.0", kTestSecret); }

TEST(tcp_rendezvous, ranks_that_share_a_secret_meet_on_loopback) { expect_meeting_at("127.0.0.1", kTestSecret); }

TEST(tcp_rendezvous, ranks_meet_at_ipv6) {
  if (!has_ipv6_loopback()) GTEST_SKIP() << "this host has no IPv6 loopback address";
  expect_meeting_at("::1");
  expect_meeting_at("[::1]");
}

TEST(tcp_rendezvous, many_ranks_meet) {
  const int num_ranks = 48;
  const auto exchanges = make_tcp_ranks(num_ranks);
  run_ranks(num_ranks, [&](int rank) {
    const auto messages = exchanges[rank]->all_gather(to_bytes(std::to_string(rank)), kAmple);
    for (int source = 0; source < num_ranks; ++source) ASSERT_EQ(messages[source], to_bytes(std::to_string(source)));
  });
}

TEST(tcp_rendezvous, rank_zero_may_come_late) {
  const std::uint16_t port = free_port();
  run_ranks(3, [&](int rank) {
    if (rank == 0) std::this_thread::sleep_for(400ms);
    make_tcp_exchange(rendezvous_without_listener("127.0.0.1", port, rank, 3))->barrier(kAmple);
  });
}

TEST(tcp_rendezvous, one_port_serves_one_exchange_after_another) {
  const std::uint16_t port = free_port();
  run_ranks(3, [&](int rank) {
    std::vector<std::shared_ptr<Exchange>> alive;
    for (int i = 0; i < 20; ++i) {
      const auto exchange = make_tcp_exchange(rendezvous_without_listener("127.0.0.1", port, rank, 3));
      exchange->barrier(kAmple);
      if (i % 2 == 0) alive.push_back(exchange);  // the port is free again though the exchange lives
    }
    for (const auto& exchange : alive) exchange->barrier(kAmple);
  });
}

TEST(tcp_rendezvous, nothing_is_left_open) {
  const int before = num_open_descriptors();
  for (int i = 0; i < 3; ++i) make_tcp_ranks(3);
  const TestListener listener = listen_on_loopback();
  errors_of_ranks(2, [&](int rank) { make_tcp_exchange(rendezvous_at(listener, rank, 3, 100ms)); });
  EXPECT_EQ(num_open_descriptors(), before);
}

TEST(tcp_rendezvous, missing_ranks_are_named_on_every_rank_that_came) {
  const TestListener listener = listen_on_loopback();
  const std::vector<int> came{0, 2, 5};
  const auto errors = errors_of_ranks(3, [&](int i) { make_tcp_exchange(rendezvous_at(listener, came[i], 7, 800ms)); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kTimeout);
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_EQ(error->failure().phase, Phase::kRendezvous);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("ranks 1, 3, 4, 6 of 7"), HasSubstr(std::to_string(listener.port))));
  }
}

TEST(tcp_rendezvous, first_deadline_counts_for_all) {
  const TestListener listener = listen_on_loopback();
  const Deadline patience(10s);
  const auto errors =
      errors_of_ranks(3, [&](int rank) { make_tcp_exchange(rendezvous_at(listener, rank, 4, rank == 1 ? 700ms : kAmple)); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->failure().culprit, 3);
    EXPECT_THAT(error->what(), HasSubstr("rank 1 waited 700 ms for rank 3 of 4"));
  }
  EXPECT_FALSE(patience.passed());
}

TEST(tcp_rendezvous, without_rank_zero_the_others_say_that_they_cannot_reach_it) {
  const std::uint16_t port = free_port();
  const auto error = error_of([&] { make_tcp_exchange(rendezvous_without_listener("127.0.0.1", port, 1, 2, 150ms)); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kTimeout);
  EXPECT_EQ(error->failure().culprit, 0);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("rank 1 could not reach rank 0 at 127.0.0.1:" + std::to_string(port)),
                                   HasSubstr("150 ms"), HasSubstr("Connection refused")));
}

TEST(tcp_rendezvous, a_name_that_does_not_resolve_is_said_so) {
  TcpRendezvous rendezvous = rendezvous_without_listener("no-such-host.invalid", 29500, 1, 2, 300ms);
  rendezvous.secret = kTestSecret;
  const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kTimeout);
  EXPECT_THAT(error->what(), HasSubstr("'no-such-host.invalid'"));
}

TEST(tcp_rendezvous, a_port_in_use_is_named) {
  const TestListener listener = listen_on_loopback();
  const auto error = error_of([&] { make_tcp_exchange(rendezvous_without_listener("127.0.0.1", listener.port, 0, 2)); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kSystem);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("127.0.0.1:" + std::to_string(listener.port)), HasSubstr("Address already in use"),
                                   HasSubstr("TOKENYARD_PORT")));
  close(listener.fd);
}

TEST(tcp_rendezvous, another_world_size_ends_it_for_all) {
  const TestListener listener = listen_on_loopback();
  const auto errors =
      errors_of_ranks(2, [&](int rank) { make_tcp_exchange(rendezvous_at(listener, rank, rank == 0 ? 3 : 8)); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_THAT(error->what(),
                AllOf(HasSubstr("rank 1"), HasSubstr("started for 8 ranks and rank 0 for 3"), HasSubstr("WORLD_SIZE")));
  }
}

TEST(tcp_rendezvous, an_impossible_request_is_refused_before_anything_is_opened) {
  struct Case {
    TcpRendezvous rendezvous;
    const char* expected;
  };
  const TcpRendezvous good = rendezvous_without_listener("127.0.0.1", 29500, 0, 2);
  std::vector<Case> cases(9, {good, ""});
  cases[0].rendezvous.num_ranks = 0;
  cases[0].expected = "an Exchange of 0 ranks";
  cases[1].rendezvous.num_ranks = 2049;
  cases[1].expected = "from 1 to 2048";
  cases[2].rendezvous.rank = 2;
  cases[2].expected = "rank = 2: with num_ranks = 2 it must be from 0 to 1";
  cases[3].rendezvous.rank = -1;
  cases[3].expected = "rank = -1";
  cases[4].rendezvous.local_rank = 2;
  cases[4].expected = "local_rank = 2";
  cases[5].rendezvous.address = "";
  cases[5].expected = "address is empty";
  cases[6].rendezvous.port = 0;
  cases[6].expected = "port = 0";
  cases[7].rendezvous.timeout = 0ms;
  cases[7].expected = "timeout = 0 ms";
  cases[8].rendezvous.rank = 1;
  cases[8].rendezvous.listen_fd = 3;
  cases[8].expected = "only rank 0 listens";
  for (const auto& [rendezvous, expected] : cases) {
    const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
    ASSERT_TRUE(error) << expected;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), HasSubstr(expected));
  }
}

TEST(tcp_rendezvous, only_a_listening_socket_is_adopted) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  TcpRendezvous rendezvous = rendezvous_without_listener("127.0.0.1", 0, 0, 2);
  for (const int fd : {pipe_fds[0], 12345}) {
    rendezvous.listen_fd = fd;
    const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), HasSubstr("listen_fd = " + std::to_string(fd)));
  }
  EXPECT_EQ(close(pipe_fds[0]), 0) << "a descriptor that is no listener must be left alone";
  close(pipe_fds[1]);
}

TEST(listener, a_loopback_address_is_served_on_loopback_alone) {
  for (const auto& listener : listen_for("127.0.0.1", free_port())) {
    EXPECT_TRUE(local_address(listener.get()).is_loopback());
  }
  for (const auto& listener : listen_for("localhost", free_port())) {
    EXPECT_TRUE(local_address(listener.get()).is_loopback());
  }
}

TEST(listener, another_address_is_served_on_all_interfaces) {
  // A host may know its own name as a loopback address, where the others know it as another.
  for (const char* address : {"10.1.2.3", "fd00::1234", "some-host-name"}) {
    const auto listeners = listen_for(address, free_port());
    ASSERT_EQ(listeners.size(), 1u);
    EXPECT_FALSE(local_address(listeners[0].get()).is_loopback());
    EXPECT_THAT(local_address(listeners[0].get()).to_string(), Not(HasSubstr("10.1.2.3")));
  }
}

}  // namespace
}  // namespace tokenyard::test
