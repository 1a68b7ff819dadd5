#include "exchange/listener.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "exchange/socket_address.hpp"

namespace tokenyard {
namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

void set_option(const FileDescriptor& socket, int level, int option, int value) {
  if (setsockopt(socket.get(), level, option, &value, sizeof(value)) != 0) fail_system("setsockopt");
}

// The host has no such protocol family, or no such address: no reason to give up on other addresses.
bool is_absent(int error) { return error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == EADDRNOTAVAIL; }

// Returns nothing where the host lacks the address.
FileDescriptor listen_at(const SocketAddress& address) {
  FileDescriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) {
    if (is_absent(errno)) return {};
    fail_system("socket");
  }
  set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6) set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (bind(socket.get(), address.get(), address.num_bytes) == 0 && listen(socket.get(), SOMAXCONN) == 0) return socket;
  const int error = errno;
  if (is_absent(error)) return {};
  fail(ErrorCode::kSystem, "rank 0 cannot listen on {}: {}. Free the port, or choose another one on all ranks (TOKENYARD_PORT)",
       address.to_string(), error_text(error));
}

struct Place {
  std::vector<SocketAddress> addresses;
  bool one_suffices = false;  // the first address that this host has, instead of all of them
};

Place place_for(const std::string& address, std::uint16_t port) {
  Place place;
  place.addresses = parse_literal(address, port);
  if (!place.addresses.empty() && place.addresses.front().is_loopback()) return place;
  const bool loopback = address == "localhost";
  place.addresses = parse_literal(loopback ? "::1" : "::", port);
  for (const SocketAddress& v4 : parse_literal(loopback ? "127.0.0.1" : "0.0.0.0", port)) place.addresses.push_back(v4);
  place.one_suffices = !loopback;  // the IPv6 wildcard serves IPv4 too
  return place;
}

}  // namespace

std::vector<FileDescriptor> listen_for(const std::string& address, std::uint16_t port) {
  const Place place = place_for(address, port);
  std::vector<FileDescriptor> listeners;
  for (const SocketAddress& candidate : place.addresses) {
    FileDescriptor listener = listen_at(candidate);
    if (listener) listeners.push_back(std::move(listener));
    if (!listeners.empty() && place.one_suffices) break;
  }
  if (listeners.empty()) {
    fail(ErrorCode::kSystem, "rank 0 cannot listen on {}: {}", host_and_port(address, port), error_text(EADDRNOTAVAIL));
  }
  return listeners;
}

FileDescriptor adopt_listener(int fd) {
  int is_listening = 0;
  socklen_t num_bytes = sizeof(is_listening);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &num_bytes) != 0) is_listening = 0;
  const int family = is_listening != 0 ? local_address(fd).family() : AF_UNSPEC;
  if (family != AF_INET && family != AF_INET6) {
    fail_argument("TcpRendezvous::listen_fd = {} is not a listening TCP socket: pass one, or -1", fd);
  }
  FileDescriptor listener(fd);
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) fail_system("fcntl");
  return listener;
}

}  // namespace tokenyard
