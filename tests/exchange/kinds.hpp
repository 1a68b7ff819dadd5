// Ready-made ranks of each kind of Exchange.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/exchange_ranks.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard::test {

using Exchanges = std::vector<std::shared_ptr<Exchange>>;

inline constexpr const char* kTestSecret = "a secret that only tests know";

inline Exchanges make_secret_tcp_ranks(int num_ranks) {
  const TestListener listener = listen_on_loopback();
  Exchanges exchanges(num_ranks);
  run_ranks(num_ranks, [&](int rank) {
    TcpRendezvous rendezvous = rendezvous_at(listener, rank, num_ranks);
    rendezvous.secret = kTestSecret;
    exchanges[rank] = make_tcp_exchange(rendezvous);
  });
  return exchanges;
}

inline Exchanges make_directory_ranks(const std::string& path, int num_ranks, const std::string& job = "job") {
  Exchanges exchanges(num_ranks);
  run_ranks(num_ranks, [&](int rank) { exchanges[rank] = make_directory_exchange(path, rank, num_ranks, job, kAmple); });
  return exchanges;
}

// An all-gather of blocks, as MPI has it, made of another Exchange.
inline GatherBlocks gather_through(std::shared_ptr<Exchange> exchange) {
  return [exchange](std::span<const std::byte> block, std::span<std::byte> blocks, std::chrono::milliseconds timeout) {
    auto place = blocks.begin();
    for (const auto& each : exchange->all_gather(block, timeout)) place = std::copy(each.begin(), each.end(), place);
  };
}

inline Exchanges make_callback_ranks(int num_ranks) {
  Exchanges exchanges;
  for (const auto& inner : make_thread_exchange(num_ranks)) {
    exchanges.push_back(make_callback_exchange(inner->rank(), num_ranks, gather_through(inner)));
  }
  return exchanges;
}

}  // namespace tokenyard::test
