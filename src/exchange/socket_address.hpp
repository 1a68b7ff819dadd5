// IPv4 and IPv6 addresses with a port.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/deadline.hpp"

namespace tokenyard {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t num_bytes = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
  bool is_loopback() const noexcept;
  std::string to_string() const;  // "10.0.0.1:29500" or "[fd00::1]:29500"
};

// Both ends of a connected socket, the near end of a listening one.
SocketAddress local_address(int fd);
SocketAddress peer_address(int fd);

// "::1" and "[::1]" are the same host; so is the port's place in "[::1]:29500" found.
std::string without_brackets(const std::string& host);
std::string host_and_port(const std::string& host, std::uint16_t port);

// The addresses that an IPv4 or IPv6 literal stands for; empty for a name.
std::vector<SocketAddress> parse_literal(const std::string& host, std::uint16_t port);

struct Resolution {
  std::vector<SocketAddress> addresses;
  std::string problem;  // why there are none
};

// Asks the system's resolver for a name, which may be slow: no longer than until the deadline.
Resolution resolve(const std::string& host, std::uint16_t port, const Deadline& deadline);

}  // namespace tokenyard
