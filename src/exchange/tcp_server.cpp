#include "exchange/tcp_server.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "exchange/connection.hpp"
#include "exchange/limits.hpp"
#include "exchange/rank_list.hpp"
#include "exchange/tcp_limits.hpp"
#include "exchange/tcp_lobby.hpp"
#include "exchange/tcp_wire.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {
namespace {

// Serves only inside its own calls, without a thread. Others that wait meanwhile learn at their own deadlines that it was
// rank 0 that did not come.
class TcpServer final : public Exchange {
 public:
  explicit TcpServer(int num_ranks) : peers_(num_ranks), messages_(num_ranks), arrived_(num_ranks, false) {}

  int rank() const noexcept override { return 0; }
  int num_ranks() const noexcept override { return static_cast<int>(peers_.size()); }

  // The rendezvous is round 0: saying hello is the contribution to it.
  void rendezvous(TcpLobby lobby, const Deadline& deadline) {
    round_name_ = "rendezvous at " + lobby.where();
    arrive(0, {});
    collect(deadline, &lobby);
    // Before anyone hears that all is well: who then meets again at the same port shall not land in the old queue.
    {
      const TcpLobby closed = std::move(lobby);
    }
    deliver(deadline);
  }

  std::vector<Bytes> all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    check_message(bytes);
    const Deadline deadline = bounded_deadline(timeout);
    throw_if_over(verdict_);
    ++round_;
    round_name_ = fmt::format("Exchange, round {}", round_);
    arrived_.assign(peers_.size(), false);
    num_arrived_ = 0;
    expired_.reset();
    arrive(0, Bytes(bytes.begin(), bytes.end()));
    collect(deadline, nullptr);
    deliver(deadline);
    return std::exchange(messages_, std::vector<Bytes>(peers_.size()));
  }

 private:
  struct Expired {
    int rank;
    std::uint64_t waited_ms;
  };

  void arrive(int rank, Bytes message) {
    messages_[rank] = std::move(message);
    arrived_[rank] = true;
    ++num_arrived_;
  }

  void collect(const Deadline& deadline, TcpLobby* lobby) {
    std::vector<pollfd> entries;
    std::vector<int> joined;  // the ranks of the first entries
    while (num_arrived_ < num_ranks()) {
      entries.clear();
      joined.clear();
      for (int rank = 1; rank < num_ranks(); ++rank) {
        if (!peers_[rank]) continue;
        joined.push_back(rank);
        entries.push_back(peers_[rank]->poll_entry());
      }
      std::chrono::milliseconds nap = deadline.remaining();
      if (lobby != nullptr) {
        lobby->add_poll_entries(entries);
        nap = std::min(nap, lobby->until_next_limit());
      }
      poll_for(entries, nap);

      std::optional<Verdict> verdict;
      for (std::size_t i = 0; i < joined.size() && !verdict; ++i) {
        if (entries[i].revents != 0) verdict = hear(joined[i]);
      }
      if (lobby != nullptr && !verdict) verdict = admit(*lobby);
      if (!verdict && num_arrived_ < num_ranks()) {
        if (deadline.passed()) expired_ = Expired{0, static_cast<std::uint64_t>(deadline.timeout().count())};
        if (expired_) verdict = missing_at(*expired_, lobby);
      }
      if (verdict) give_up(std::move(*verdict), lobby);
    }
  }

  std::optional<Verdict> admit(TcpLobby& lobby) {
    std::vector<TcpLobby::Arrival> arrivals;
    std::optional<Verdict> verdict = lobby.admit(arrivals);
    for (auto& [rank, connection] : arrivals) {
      peers_[rank] = std::move(connection);
      arrive(rank, {});
    }
    return verdict;
  }

  // Takes in what a rank has sent. A rank that gave up says so last, so everything is read before anything is judged.
  std::optional<Verdict> hear(int rank) {
    Connection& peer = *peers_[rank];
    peer.flush();
    while (std::optional<Frame> frame = peer.receive(max_contribution_frame_bytes())) {
      const FrameHeader& header = frame->header;
      if (header.type == FrameType::kContribution && header.round == round_ && !arrived_[rank]) {
        arrive(rank, std::move(frame->body));
      } else if (header.type == FrameType::kExpired && header.round <= round_) {
        const std::optional<std::uint64_t> waited_ms = decode_expired(frame->body);
        // An earlier round's crossed its result on the way.
        if (waited_ms && header.round == round_) expired_ = Expired{rank, *waited_ms};
      } else if (header.type == FrameType::kFailed) {
        if (std::optional<Verdict> verdict = decode_verdict(frame->body)) return verdict;
      } else {
        return make_verdict(ErrorCode::kDisagreement, rank, 0,
                            fmt::format("{}: rank {} ({}) sent a message of type {} for round {}, which is out of order",
                                        round_name_, rank, peer.peer(), static_cast<std::uint32_t>(header.type), header.round));
      }
    }
    switch (peer.end()) {
      case Connection::End::kNone: return std::nullopt;
      case Connection::End::kClosed:
        return make_verdict(
            ErrorCode::kPeerLost, rank, 0,
            fmt::format("{}: rank {} ({}) has left or died: it {}", round_name_, rank, peer.peer(), peer.end_reason()));
      case Connection::End::kNoFrames:
        return make_verdict(ErrorCode::kDisagreement, rank, 0,
                            fmt::format("{}: rank {} ({}) {}", round_name_, rank, peer.peer(), peer.end_reason()));
    }
    return std::nullopt;
  }

  Verdict missing_at(const Expired& expired, const TcpLobby* lobby) const {
    std::vector<int> missing;
    for (int rank = 0; rank < num_ranks(); ++rank) {
      if (!arrived_[rank]) missing.push_back(rank);
    }
    std::string text = fmt::format("{}: rank {} waited {} ms for {} of {}, not arrived yet", round_name_, expired.rank,
                                   expired.waited_ms, list_ranks(missing), num_ranks());
    if (lobby != nullptr) {
      text += ". Are they running, and do they look for rank 0 there (MASTER_ADDR, MASTER_PORT, TOKENYARD_PORT)?";
      text += lobby->turned_away();
    }
    return make_verdict(ErrorCode::kTimeout, missing.front(), expired.rank, std::move(text));
  }

  // Sends everyone the result and stays until it has left: nothing serves the connections between two calls.
  void deliver(const Deadline& deadline) {
    send_to_all(make_frame(FrameType::kResult, round_, encode_result(messages_)));
    flush_all(connections(), Deadline(std::max(deadline.remaining(), kGrace)));
    std::vector<int> stuck;
    for (int rank = 1; rank < num_ranks(); ++rank) {
      if (peers_[rank]->has_unsent()) stuck.push_back(rank);
    }
    if (stuck.empty()) return;
    give_up(make_verdict(ErrorCode::kTimeout, stuck.front(), 0,
                         fmt::format("{}: rank 0 waited {} ms for {} of {} to take the result", round_name_,
                                     deadline.elapsed().count(), list_ranks(stuck), num_ranks())),
            nullptr);
  }

  [[noreturn]] void give_up(Verdict verdict, TcpLobby* lobby) {
    verdict_ = std::move(verdict);
    const SharedFrame frame = make_frame(FrameType::kFailed, round_, encode_verdict(*verdict_));
    send_to_all(frame);
    std::vector<Connection*> listening = connections();
    if (lobby != nullptr && lobby->refused() != nullptr) {
      lobby->refused()->send(frame);
      listening.push_back(lobby->refused());
    }
    flush_all(listening, Deadline(kGrace));
    throw_verdict(*verdict_);
  }

  void send_to_all(const SharedFrame& frame) {
    for (Connection* connection : connections()) connection->send(frame);
  }

  std::vector<Connection*> connections() {
    std::vector<Connection*> joined;
    for (std::optional<Connection>& peer : peers_) {
      if (peer) joined.push_back(&*peer);
    }
    return joined;
  }

  std::vector<std::optional<Connection>> peers_;  // by rank; none for rank 0
  std::uint64_t round_ = 0;
  std::string round_name_;
  std::vector<Bytes> messages_;  // of this round, by rank
  std::vector<bool> arrived_;
  int num_arrived_ = 0;
  std::optional<Expired> expired_;  // whose deadline in this round passed first
  std::optional<Verdict> verdict_;
};

}  // namespace

std::shared_ptr<Exchange> serve_tcp_exchange(std::vector<FileDescriptor> listeners, int num_ranks, std::optional<Key> secret,
                                             const Deadline& deadline) {
  auto server = std::make_shared<TcpServer>(num_ranks);
  server->rendezvous(TcpLobby(std::move(listeners), num_ranks, std::move(secret)), deadline);
  return server;
}

}  // namespace tokenyard
