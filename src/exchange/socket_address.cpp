#include "exchange/socket_address.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <future>
#include <memory>
#include <thread>
#include <utility>

namespace tokenyard {
namespace {

constexpr in_addr_t kLoopbackNetwork = 0x7f;  // 127.0.0.0/8

in_addr unmapped(const in6_addr& address) {
  in_addr inner{};
  std::memcpy(&inner, &address.s6_addr[12], sizeof(inner));
  return inner;
}

bool is_loopback_v4(in_addr address) { return ntohl(address.s_addr) >> 24 == kLoopbackNetwork; }

std::string v4_text(in_addr address, in_port_t port) {
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &address, text, sizeof(text));
  return fmt::format("{}:{}", text, ntohs(port));
}

Resolution look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  Resolution resolution;
  const int status = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0) {
    resolution.problem = fmt::format("cannot resolve '{}': {}", host, gai_strerror(status));
    return resolution;
  }
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.num_bytes = entry->ai_addrlen;
    resolution.addresses.push_back(address);
  }
  freeaddrinfo(found);
  if (resolution.addresses.empty()) resolution.problem = fmt::format("'{}' has no IPv4 or IPv6 address", host);
  return resolution;
}

}  // namespace

bool SocketAddress::is_loopback() const noexcept {
  if (family() == AF_INET) return is_loopback_v4(reinterpret_cast<const sockaddr_in&>(storage).sin_addr);
  if (family() != AF_INET6) return false;
  const in6_addr& address = reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&address)) return is_loopback_v4(unmapped(address));
  return IN6_IS_ADDR_LOOPBACK(&address);
}

std::string SocketAddress::to_string() const {
  if (family() == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    return v4_text(address.sin_addr, address.sin_port);
  }
  if (family() != AF_INET6) return "an unknown address";
  const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
  // A dual-stack socket shows IPv4 peers this way.
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) return v4_text(unmapped(address.sin6_addr), address.sin6_port);
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof(text));
  return fmt::format("[{}]:{}", text, ntohs(address.sin6_port));
}

SocketAddress local_address(int fd) {
  SocketAddress address;
  address.num_bytes = sizeof(address.storage);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.num_bytes);
  return address;
}

SocketAddress peer_address(int fd) {
  SocketAddress address;
  address.num_bytes = sizeof(address.storage);
  getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.num_bytes);
  return address;
}

std::string without_brackets(const std::string& host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return bracketed ? host.substr(1, host.size() - 2) : host;
}

std::string host_and_port(const std::string& host, std::uint16_t port) {
  const std::string bare = without_brackets(host);
  return bare.find(':') == std::string::npos ? fmt::format("{}:{}", bare, port) : fmt::format("[{}]:{}", bare, port);
}

std::vector<SocketAddress> parse_literal(const std::string& host, std::uint16_t port) {
  return look_up(without_brackets(host), port, AI_NUMERICHOST).addresses;
}

Resolution resolve(const std::string& host, std::uint16_t port, const Deadline& deadline) {
  std::vector<SocketAddress> literal = parse_literal(host, port);
  if (!literal.empty()) return {std::move(literal), {}};
  // getaddrinfo knows no deadline. A thread that is still in it when ours passes ends by itself and touches nothing of ours.
  std::packaged_task<Resolution()> task([host, port] { return look_up(host, port, 0); });
  std::future<Resolution> answer = task.get_future();
  std::thread(std::move(task)).detach();
  if (answer.wait_for(deadline.remaining()) == std::future_status::ready) return answer.get();
  return {{}, fmt::format("resolving '{}' took longer than {} ms", host, deadline.timeout().count())};
}

}  // namespace tokenyard
