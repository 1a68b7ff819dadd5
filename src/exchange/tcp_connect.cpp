#include "exchange/tcp_connect.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "exchange/connection.hpp"
#include "exchange/secret.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_limits.hpp"

namespace tokenyard {
namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

// Returns nothing, and why, when the address cannot be reached now.
FileDescriptor connect_once(const SocketAddress& address, const Deadline& deadline, std::string& problem) {
  FileDescriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int error = socket ? 0 : errno;
  if (socket && connect(socket.get(), address.get(), address.num_bytes) != 0) error = errno;
  if (error == EINPROGRESS || error == EINTR) {
    pollfd entry{.fd = socket.get(), .events = POLLOUT, .revents = 0};
    poll_for({&entry, 1}, std::min(deadline.remaining(), kConnectLimit));
    socklen_t num_bytes = sizeof(error);
    error = ETIMEDOUT;
    if (entry.revents != 0) getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &num_bytes);
  }
  if (error != 0) {
    problem = fmt::format("{}: {}", address.to_string(), error_text(error));
    return {};
  }
  // While nobody listens at a port of the range for outgoing connections, TCP may connect a socket to itself.
  const std::string self = local_address(socket.get()).to_string();
  if (self == peer_address(socket.get()).to_string()) {
    problem = fmt::format("{}: nobody listens", address.to_string());
    return {};
  }
  return socket;
}

}  // namespace

FileDescriptor connect_to_rank_zero(const TcpRendezvous& rendezvous, const Deadline& deadline, std::string& problem) {
  Resolution resolution = resolve(rendezvous.address, rendezvous.port, deadline);
  if (resolution.addresses.empty()) problem = std::move(resolution.problem);
  for (const SocketAddress& address : resolution.addresses) {
    if (rendezvous.secret.empty() && !address.is_loopback()) {
      fail_argument(
          "'{}' stands for {}, which is no loopback address, and there is no secret: {}, the same value for all ranks",
          rendezvous.address, address.to_string(), kSecretLine);
    }
    if (FileDescriptor socket = connect_once(address, deadline, problem)) return socket;
  }
  return {};
}

}  // namespace tokenyard
