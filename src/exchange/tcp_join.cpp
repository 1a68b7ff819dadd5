#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "exchange/handshake.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_client.hpp"
#include "exchange/tcp_connect.hpp"
#include "exchange/tcp_limits.hpp"
#include "exchange/tcp_wire.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kMaxHearsayBytes = 500;

// What one rank says to whatever listens at rank 0's place, until that is known to be rank 0.
class Introduction {
 public:
  Introduction(const TcpRendezvous& rendezvous, const std::optional<Key>& secret, Connection& connection)
      : rendezvous_(rendezvous), secret_(secret), connection_(connection) {
    hello_.num_ranks = static_cast<std::uint32_t>(rendezvous.num_ranks);
    hello_.rank = static_cast<std::uint32_t>(rendezvous.rank);
    if (secret) hello_.nonce = random_nonce();
  }

  // Returns false if the connection was closed before an answer: by a rank 0 that is just going or coming, or had no room.
  bool is_accepted(const Deadline& deadline) {
    connection_.send(make_frame(FrameType::kHello, 0, encode_hello(hello_)));
    while (true) {
      connection_.flush();
      if (const std::optional<Frame> frame = connection_.receive(kMaxVerdictBytes)) {
        if (answers_challenge(*frame)) continue;
        if (is_acceptance(*frame)) return true;
        fail_refused(*frame);
      }
      if (connection_.end() == Connection::End::kClosed) return false;
      if (connection_.end() == Connection::End::kNoFrames) fail_not_rank_zero(connection_.end_reason());
      if (deadline.passed()) fail_silent(deadline);
      pollfd entry = connection_.poll_entry();
      poll_for({&entry, 1}, deadline.remaining());
    }
  }

 private:
  bool answers_challenge(const Frame& frame) {
    if (!secret_ || handshake_ || frame.header.type != FrameType::kChallenge) return false;
    const std::optional<Nonce> challenge = decode_32_bytes(frame.body);
    if (!challenge) return false;
    handshake_.emplace(*secret_, hello_, *challenge);
    connection_.send(make_frame(FrameType::kAnswer, 0, handshake_->proof_of_rank()));
    return true;
  }

  bool is_acceptance(const Frame& frame) {
    if (frame.header.version != kWireVersion || frame.header.type != FrameType::kAccepted) return false;
    if (!secret_) return frame.body.empty();
    const std::optional<Mac> proof = decode_32_bytes(frame.body);
    if (!handshake_ || !proof || !is_equal(*proof, handshake_->proof_of_rank_zero())) {
      fail_not_rank_zero("accepted this rank without a proof that it knows the secret");
    }
    connection_.seal(handshake_->key_of_rank(), handshake_->key_of_rank_zero());
    return true;
  }

  [[noreturn]] void fail_refused(const Frame& frame) const {
    const FrameHeader& header = frame.header;
    const std::optional<Verdict> verdict = header.type == FrameType::kFailed ? decode_verdict(frame.body) : std::nullopt;
    if (!verdict) {
      fail_not_rank_zero(fmt::format("answered with a message of type {}, version {}", static_cast<std::uint32_t>(header.type),
                                     header.version));
    }
    if (!secret_) throw_verdict(*verdict);
    throw_verdict(
        make_verdict(ErrorCode::kDisagreement, 0, rendezvous_.rank,
                     fmt::format("rendezvous: {} turned rank {} away. It has not proved that it knows the secret, and "
                                 "says: {}",
                                 connection_.peer(), rendezvous_.rank, verdict->text.substr(0, kMaxHearsayBytes))));
  }

  [[noreturn]] void fail_not_rank_zero(const std::string& what) const {
    throw_verdict(make_verdict(
        ErrorCode::kDisagreement, 0, rendezvous_.rank,
        fmt::format(
            "rendezvous: what listens at {} is not rank 0 of this job: it {}. Does another program, torchrun's own store "
            "for one, use that port? TOKENYARD_PORT chooses another for all ranks",
            connection_.peer(), what)));
  }

  [[noreturn]] void fail_silent(const Deadline& deadline) const {
    throw_verdict(make_verdict(ErrorCode::kTimeout, 0, rendezvous_.rank,
                               fmt::format("rendezvous: {} took the connection of rank {}, but no answer came within {} ms. Is "
                                           "rank 0 stuck before its rendezvous, or is it another program that listens there?",
                                           connection_.peer(), rendezvous_.rank, deadline.timeout().count())));
  }

  const TcpRendezvous& rendezvous_;
  const std::optional<Key>& secret_;
  Connection& connection_;
  Hello hello_;
  std::optional<Handshake> handshake_;
};

}  // namespace

Connection join_rank_zero(const TcpRendezvous& rendezvous, const std::optional<Key>& secret, const Deadline& deadline) {
  const std::string place = host_and_port(rendezvous.address, rendezvous.port);
  std::string problem;
  std::chrono::milliseconds pause = kFirstPause;
  int num_tries = 0;
  do {
    if (FileDescriptor socket = connect_to_rank_zero(rendezvous, deadline, problem)) {
      const SocketAddress peer = peer_address(socket.get());
      Connection connection(std::move(socket), peer);
      if (Introduction(rendezvous, secret, connection).is_accepted(deadline)) return connection;
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
