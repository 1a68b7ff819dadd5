// The ways for ranks to find each other.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr int kTimeoutMs = 20'000;

// Runs body(rank) on a thread per rank, which meet in the Exchange that it returns, and gather by it.
template <class Make>
void expect_meeting(Make make_exchange) {
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const CExchange exchange = make_exchange(rank);
      ASSERT_NE(exchange, nullptr);
      EXPECT_EQ(ty_exchange_rank(exchange.get()), rank);
      EXPECT_EQ(ty_exchange_num_ranks(exchange.get()), kNumRanks);
      const std::int64_t mine = rank + 100;
      std::int64_t all[kNumRanks] = {};
      expect_ok(ty_exchange_all_gather(exchange.get(), &mine, sizeof(mine), all, kTimeoutMs));
      EXPECT_THAT(all, testing::ElementsAre(100, 101));
      expect_ok(ty_exchange_all_gather(exchange.get(), nullptr, 0, nullptr, kTimeoutMs));
      expect_ok(ty_exchange_barrier(exchange.get(), kTimeoutMs));
    });
  }
}

// A socket that listens on a free port of the loopback, and that port.
std::pair<int, int> listen_anywhere() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd, 16), 0);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  return {fd, ntohs(address.sin_port)};
}

TEST(exchanges, meet_over_tcp_with_a_secret) {
  const auto [fd, port] = listen_anywhere();
  expect_meeting([fd = fd, port = port](int rank) {
    ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
    rendezvous.port = port;
    rendezvous.rank = rank;
    rendezvous.num_ranks = kNumRanks;
    rendezvous.local_rank = rank;
    rendezvous.timeout_ms = kTimeoutMs;
    rendezvous.secret = "nobody will ever guess this one";
    rendezvous.listen_fd = rank == 0 ? fd : -1;
    return make<CExchange>(ty_exchange_create_tcp, &rendezvous);
  });
}

TEST(exchanges, meet_in_a_directory) {
  std::string path = std::filesystem::temp_directory_path() / "tokenyard-capi-XXXXXX";
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  expect_meeting([&](int rank) {
    return make<CExchange>(ty_exchange_create_directory, path.c_str(), rank, kNumRanks, "job", kTimeoutMs);
  });
  EXPECT_TRUE(std::filesystem::is_empty(path));
  std::filesystem::remove_all(path);
}

TEST(exchanges, refuse_what_cannot_be) {
  ty_exchange* exchange = nullptr;
  ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
  rendezvous.port = 70'000;
  expect_status(ty_exchange_create_tcp(&rendezvous, &exchange), TY_INVALID_ARGUMENT, "rendezvous->port is 70000");
  rendezvous = TY_TCP_RENDEZVOUS_INIT;
  rendezvous.timeout_ms = -1;
  expect_status(ty_exchange_create_tcp(&rendezvous, &exchange), TY_INVALID_ARGUMENT, "rendezvous->timeout_ms is -1");
  rendezvous = TY_TCP_RENDEZVOUS_INIT;
  rendezvous.address = "192.0.2.1";
  rendezvous.num_ranks = 2;
  expect_status(ty_exchange_create_tcp(&rendezvous, &exchange), TY_INVALID_ARGUMENT, "TOKENYARD_SECRET");
  expect_status(ty_exchange_create_tcp(nullptr, &exchange), TY_INVALID_ARGUMENT, "rendezvous is NULL");
  expect_status(ty_exchange_create_directory(nullptr, 0, 1, "job", 10, &exchange), TY_INVALID_ARGUMENT, "path is NULL");
  expect_status(ty_exchange_create_directory("/tmp", 0, 1, nullptr, 10, &exchange), TY_INVALID_ARGUMENT, "job is NULL");
  expect_status(ty_exchange_create_threads(0, &exchange), TY_INVALID_ARGUMENT, "0 ranks");
  EXPECT_EQ(exchange, nullptr);
}

TEST(exchanges, gather_blocks_of_one_length_only) {
  ty_exchange* exchanges[kNumRanks] = {};
  expect_ok(ty_exchange_create_threads(kNumRanks, exchanges));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const CExchange exchange(exchanges[rank]);
      const char block[4] = {};
      char blocks[8] = {};
      expect_status(ty_exchange_all_gather(exchange.get(), block, static_cast<std::size_t>(rank) + 3, blocks, kTimeoutMs),
                    TY_DISAGREEMENT, "all must give as many");
      expect_ok(ty_exchange_barrier(exchange.get(), kTimeoutMs));
    });
  }
}

TEST(exchanges, learn_from_the_variables_of_a_launcher) {
  ::setenv("RANK", "3", 1);
  ::setenv("WORLD_SIZE", "8", 1);
  ::setenv("LOCAL_RANK", "1", 1);
  ::setenv("MASTER_ADDR", "localhost", 1);
  ::setenv("MASTER_PORT", "29777", 1);
  ::setenv("TOKENYARD_SECRET", "nobody will ever guess this one", 1);
  ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
  expect_ok(ty_tcp_rendezvous_from_environment(&rendezvous));
  EXPECT_STREQ(rendezvous.address, "localhost");
  EXPECT_STREQ(rendezvous.secret, "nobody will ever guess this one");
  EXPECT_EQ(rendezvous.port, 29777);
  EXPECT_EQ(rendezvous.rank, 3);
  EXPECT_EQ(rendezvous.num_ranks, 8);
  EXPECT_EQ(rendezvous.local_rank, 1);
  EXPECT_EQ(rendezvous.listen_fd, -1);
  const char* launcher = nullptr;
  expect_ok(ty_launcher_from_environment(&launcher));
  EXPECT_STREQ(launcher, "torchrun");
  expect_status(ty_launcher_from_environment(nullptr), TY_INVALID_ARGUMENT, "launcher is NULL");
  const char* secret = nullptr;
  expect_ok(ty_secret_from_environment(&secret));
  EXPECT_STREQ(secret, "nobody will ever guess this one");
  ::unsetenv("TOKENYARD_SECRET");
  expect_ok(ty_secret_from_environment(&secret));
  EXPECT_STREQ(secret, "");
  ::setenv("RANK", "eleven", 1);
  expect_status(ty_tcp_rendezvous_from_environment(&rendezvous), TY_INVALID_ARGUMENT, "RANK");
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) ::unsetenv(name);
}

}  // namespace
}  // namespace tokenyard::test
