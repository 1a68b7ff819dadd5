#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "exchange/limits.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_client.hpp"
#include "exchange/tcp_limits.hpp"
#include "exchange/tcp_wire.hpp"
#include "exchange/verdict.hpp"

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

// One round of tries.
FileDescriptor connect_any(const TcpRendezvous& rendezvous, const Deadline& deadline, std::string& problem) {
  Resolution resolution = resolve(rendezvous.address, rendezvous.port, deadline);
  if (resolution.addresses.empty()) problem = std::move(resolution.problem);
  for (const SocketAddress& address : resolution.addresses) {
    if (FileDescriptor socket = connect_once(address, deadline, problem)) return socket;
  }
  return {};
}

[[noreturn]] void fail_not_rank_zero(const TcpRendezvous& rendezvous, const Connection& connection, const std::string& what) {
  throw_verdict(make_verdict(
      ErrorCode::kDisagreement, 0, rendezvous.rank,
      fmt::format("rendezvous: what listens at {} is not rank 0 of this job: it {}. Does another program, torchrun's own store "
                  "for one, use that port? TOKENYARD_PORT chooses another for all ranks",
                  connection.peer(), what)));
}

// Returns false if the connection was closed before an answer: by a rank 0 that is just going, or was just coming.
bool is_accepted(const TcpRendezvous& rendezvous, Connection& connection, const Deadline& deadline) {
  while (true) {
    connection.flush();
    if (const std::optional<Frame> frame = connection.receive(kMaxFailedBytes)) {
      const FrameHeader& header = frame->header;
      const std::optional<Verdict> verdict = header.type == FrameType::kFailed ? decode_verdict(frame->body) : std::nullopt;
      if (verdict) throw_verdict(*verdict);
      if (header.version == kWireVersion && header.type == FrameType::kAccepted) return true;
      fail_not_rank_zero(rendezvous, connection,
                         fmt::format("answered with a message of type {}, version {}", static_cast<std::uint32_t>(header.type),
                                     header.version));
    }
    if (connection.end() == Connection::End::kClosed) return false;
    if (connection.end() == Connection::End::kNoFrames) fail_not_rank_zero(rendezvous, connection, connection.end_reason());
    if (deadline.passed()) {
      throw_verdict(
          make_verdict(ErrorCode::kTimeout, 0, rendezvous.rank,
                       fmt::format("rendezvous: {} took the connection of rank {}, but no answer came within {} ms. Is rank 0 "
                                   "stuck before its rendezvous, or is it another program that listens there?",
                                   connection.peer(), rendezvous.rank, deadline.timeout().count())));
    }
    pollfd entry = connection.poll_entry();
    poll_for({&entry, 1}, deadline.remaining());
  }
}

}  // namespace

Connection join_rank_zero(const TcpRendezvous& rendezvous, const Deadline& deadline) {
  const Bytes hello = encode_hello(
      {.num_ranks = static_cast<std::uint32_t>(rendezvous.num_ranks), .rank = static_cast<std::uint32_t>(rendezvous.rank)});
  const std::string place = host_and_port(rendezvous.address, rendezvous.port);
  std::string problem;
  std::chrono::milliseconds pause = kFirstPause;
  int num_tries = 0;
  do {
    if (FileDescriptor socket = connect_any(rendezvous, deadline, problem)) {
      Connection connection(std::move(socket));
      connection.send(make_frame(FrameType::kHello, 0, hello));
      if (is_accepted(rendezvous, connection, deadline)) return connection;
      problem = fmt::format("{}: it {} without an answer", connection.peer(), connection.end_reason());
    }
    if (++num_tries == 1) {
      log(LogLevel::kInfo, fmt::format("rank {} waits for rank 0 at {} ({})", rendezvous.rank, place, problem));
    }
    std::this_thread::sleep_for(std::min(pause, deadline.remaining()));
    pause = std::min(2 * pause, kLongestPause);
  } while (!deadline.passed());
  throw_verdict(
      make_verdict(ErrorCode::kTimeout, 0, rendezvous.rank,
                   fmt::format("rendezvous: rank {} could not reach rank 0 at {} within {} ms ({} tries; the last: {}). Is "
                               "rank 0 running, is the address right, and does a firewall allow the port?",
                               rendezvous.rank, place, deadline.timeout().count(), num_tries, problem)));
}

}  // namespace tokenyard
