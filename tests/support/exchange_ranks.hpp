// Ranks as threads of a test, and what each of them threw.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/deadline.hpp"
#include "tests/support/ample_time.hpp"
#include "tokenyard/error.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard::test {

using namespace std::chrono_literals;

inline const std::chrono::milliseconds kAmple = ample_time();

inline std::vector<std::byte> to_bytes(const std::string& text) {
  std::vector<std::byte> bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

// Calls body(rank) on a thread per rank. Element i is the Error that rank i threw, if any; other exceptions are rethrown.
template <class Body>
std::vector<std::optional<Error>> errors_of_ranks(int num_ranks, Body body) {
  std::vector<std::optional<Error>> errors(num_ranks);
  std::vector<std::exception_ptr> surprises(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(rank);
      } catch (const Error& error) {
        errors[rank] = error;
      } catch (...) {
        surprises[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& surprise : surprises) {
    if (surprise) std::rethrow_exception(surprise);
  }
  return errors;
}

// The same for ranks that must not fail.
template <class Body>
void run_ranks(int num_ranks, Body body) {
  for (const std::optional<Error>& error : errors_of_ranks(num_ranks, body)) {
    if (error) throw *error;
  }
}

template <class Body>
std::optional<Error> error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// A listening loopback socket at a port that the system chose.
struct TestListener {
  int fd = -1;
  std::uint16_t port = 0;
};

inline TestListener listen_on_loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t num_bytes = sizeof(address);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 128) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &num_bytes) != 0) {
    throw std::runtime_error("cannot listen on 127.0.0.1");
  }
  return {fd, ntohs(address.sin_port)};
}

// A port at which nobody listens now.
inline std::uint16_t free_port() {
  const TestListener listener = listen_on_loopback();
  close(listener.fd);
  return listener.port;
}

inline bool has_ipv6_loopback() {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return bound;
}

// The rendezvous of a rank, where rank 0 has the listener.
inline TcpRendezvous rendezvous_at(const TestListener& listener, int rank, int num_ranks,
                                   std::chrono::milliseconds timeout = kAmple) {
  TcpRendezvous rendezvous;
  rendezvous.port = listener.port;
  rendezvous.rank = rank;
  rendezvous.num_ranks = num_ranks;
  rendezvous.timeout = timeout;
  rendezvous.listen_fd = rank == 0 ? listener.fd : -1;
  return rendezvous;
}

inline std::vector<std::shared_ptr<Exchange>> make_tcp_ranks(int num_ranks) {
  const TestListener listener = listen_on_loopback();
  std::vector<std::shared_ptr<Exchange>> exchanges(num_ranks);
  run_ranks(num_ranks, [&](int rank) { exchanges[rank] = make_tcp_exchange(rendezvous_at(listener, rank, num_ranks)); });
  return exchanges;
}

}  // namespace tokenyard::test
