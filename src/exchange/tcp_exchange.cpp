// Ranks that are processes: a star with rank 0 in the middle.
//
// Round 0 is the rendezvous, every all_gather is one round more. In a round each rank sends rank 0 its bytes (its hello, in
// round 0), and rank 0 answers all of them with the result. A round that cannot finish has a verdict instead, and the exchange
// is over: rank 0 finds out that a connection ended or that a deadline passed, its own or, told by kExpired, another's; it
// words the verdict and sends it to all. Only when rank 0 itself is silent for longer than kGrace does a rank find its own
// verdict, which rank 0 then passes on if it still lives.
//
// Where there is a secret, a connection begins with a proof of it by both sides, and every later frame carries a seal
// (handshake.hpp). Nothing is encrypted.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fail.hpp"
#include "exchange/handshake.hpp"
#include "exchange/limits.hpp"
#include "exchange/listener.hpp"
#include "exchange/secret.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_client.hpp"
#include "exchange/tcp_server.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {
namespace {

void check(const TcpRendezvous& rendezvous) {
  check_num_ranks(rendezvous.num_ranks);
  if (rendezvous.rank < 0 || rendezvous.rank >= rendezvous.num_ranks) {
    fail_argument("TcpRendezvous::rank = {}: with num_ranks = {} it must be from 0 to {}", rendezvous.rank,
                  rendezvous.num_ranks, rendezvous.num_ranks - 1);
  }
  if (rendezvous.local_rank < 0 || rendezvous.local_rank >= rendezvous.num_ranks) {
    fail_argument("TcpRendezvous::local_rank = {}: with num_ranks = {} it must be from 0 to {}", rendezvous.local_rank,
                  rendezvous.num_ranks, rendezvous.num_ranks - 1);
  }
  if (rendezvous.address.empty())
    fail_argument("TcpRendezvous::address is empty: it must name rank 0's host, \"10.0.0.1\" say");
  if (rendezvous.timeout <= std::chrono::milliseconds{0}) {
    fail_argument("TcpRendezvous::timeout = {} ms: it must be positive", rendezvous.timeout.count());
  }
  if (rendezvous.listen_fd != -1 && rendezvous.rank != 0) {
    fail_argument("TcpRendezvous::listen_fd = {} on rank {}: only rank 0 listens, the others need -1", rendezvous.listen_fd,
                  rendezvous.rank);
  }
  if (rendezvous.port == 0 && rendezvous.listen_fd == -1) {
    fail_argument("TcpRendezvous::port = 0: the others could not know which port rank 0 got; choose one from 1 to 65535");
  }
}

// A name is a loopback address only if it is this one: what a resolver says about others may change.
bool is_loopback(const std::string& address) {
  if (address == "localhost") return true;
  const std::vector<SocketAddress> literal = parse_literal(address, 0);
  return !literal.empty() && literal.front().is_loopback();
}

// Everybody who reaches the port may join where there is no secret. On loopback that is who has a shell on this host.
void check_reach(const TcpRendezvous& rendezvous) {
  if (!rendezvous.secret.empty()) return check_secret(rendezvous.secret, "TcpRendezvous::secret");
  std::string place = rendezvous.address;
  if (rendezvous.listen_fd != -1) {
    const SocketAddress address = local_address(rendezvous.listen_fd);
    // What is no TCP socket at all is refused as such.
    if (address.is_loopback() || (address.family() != AF_INET && address.family() != AF_INET6)) return;
    place = address.to_string();
  } else if (rendezvous.num_ranks == 1 || is_loopback(place)) {
    return;
  }
  fail_argument(
      "{} is no loopback address, and without a secret only loopback is served or contacted. Set one for all ranks: {} "
      "(or fill TcpRendezvous::secret). If all ranks are on this host, 127.0.0.1 needs none",
      place, kSecretLine);
}

}  // namespace

std::shared_ptr<Exchange> make_tcp_exchange(const TcpRendezvous& rendezvous) {
  check(rendezvous);
  check_reach(rendezvous);
  std::optional<Key> secret;
  if (!rendezvous.secret.empty()) secret = key_of_secret(rendezvous.secret);
  const Deadline deadline = bounded_deadline(rendezvous.timeout);
  if (rendezvous.rank != 0) {
    return make_tcp_client(join_rank_zero(rendezvous, secret, deadline), rendezvous.rank, rendezvous.num_ranks, deadline);
  }
  std::vector<FileDescriptor> listeners;
  if (rendezvous.listen_fd != -1) {
    listeners.push_back(adopt_listener(rendezvous.listen_fd));
  } else if (rendezvous.num_ranks > 1) {
    listeners = listen_for(rendezvous.address, rendezvous.port);
  }
  return serve_tcp_exchange(std::move(listeners), rendezvous.num_ranks, std::move(secret), deadline);
}

}  // namespace tokenyard
