#include "exchange/tcp_lobby.hpp"

#include <fmt/core.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/log.hpp"
#include "exchange/limits.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_limits.hpp"

namespace tokenyard {
namespace {

constexpr int kMaxWarnings = 10;  // a flood shall not fill the log

}  // namespace

TcpLobby::TcpLobby(std::vector<FileDescriptor> listeners, int num_ranks, std::optional<Key> secret)
    : listeners_(std::move(listeners)), num_ranks_(num_ranks), admission_(num_ranks, std::move(secret), where()) {}

std::string TcpLobby::where() const {
  std::string text;
  for (const FileDescriptor& listener : listeners_) {
    if (!text.empty()) text += " and ";
    text += local_address(listener.get()).to_string();
  }
  return text;
}

std::string TcpLobby::turned_away() const {
  if (num_turned_away_ == 0) return {};
  return fmt::format(". Turned away at the door: {}; the last: {}", num_turned_away_, last_turned_away_);
}

void TcpLobby::add_poll_entries(std::vector<pollfd>& entries) const {
  for (const FileDescriptor& listener : listeners_) entries.push_back({.fd = listener.get(), .events = POLLIN, .revents = 0});
  for (const Stranger& stranger : strangers_) entries.push_back(stranger.candidate.connection.poll_entry());
}

std::chrono::milliseconds TcpLobby::until_next_limit() const {
  return strangers_.empty() ? kLongestTimeout : strangers_.front().limit.remaining();
}

std::optional<Verdict> TcpLobby::admit(std::vector<Arrival>& arrivals) {
  for (const FileDescriptor& listener : listeners_) {
    if (std::optional<Verdict> verdict = accept_all(listener)) return verdict;
  }
  using Kind = Admission::Judgement::Kind;
  for (auto stranger = strangers_.begin(); stranger != strangers_.end();) {
    Admission::Candidate& candidate = stranger->candidate;
    Connection& connection = candidate.connection;
    if (const std::optional<Frame> frame = connection.receive(kMaxHelloBytes)) {
      Admission::Judgement judgement = admission_.hear(candidate, *frame);
      if (judgement.kind == Kind::kWaits) continue;  // its next message may be here already
      if (judgement.kind == Kind::kJoins) {
        arrivals.push_back({static_cast<int>(candidate.hello->rank), std::move(connection)});
      } else if (judgement.kind == Kind::kEndsAll) {
        refused_ = std::move(connection);
        strangers_.erase(stranger);
        return std::move(judgement.verdict);
      } else if (judgement.verdict.text.empty()) {
        drop(connection, "sent a message that is no hello");
      } else {
        ++num_turned_away_;
        last_turned_away_ = judgement.verdict.text;
        warn(std::move(judgement.verdict.text));
      }
    } else if (connection.end() != Connection::End::kNone) {
      drop(connection, connection.end_reason());
    } else if (stranger->limit.passed()) {
      drop(connection, fmt::format("sent no {} within {} ms", candidate.hello ? "proof" : "hello", kHelloLimit.count()));
    } else {
      ++stranger;
      continue;
    }
    stranger = strangers_.erase(stranger);
  }
  return std::nullopt;
}

std::optional<Verdict> TcpLobby::accept_all(const FileDescriptor& listener) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    SocketAddress peer;
    peer.num_bytes = sizeof(peer.storage);
    FileDescriptor socket(accept4(listener.get(), peer.get(), &peer.num_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      const int error = errno;
      if (error == EAGAIN || error == EWOULDBLOCK) return std::nullopt;
      if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        // accept4 says so before it looks whether anyone is there.
        pollfd entry{.fd = listener.get(), .events = POLLIN, .revents = 0};
        poll_for({&entry, 1}, std::chrono::milliseconds{0});
        if (entry.revents == 0) return std::nullopt;
        return make_verdict(ErrorCode::kSystem, 0, 0,
                            fmt::format("rendezvous: rank 0 cannot accept a connection: {}. It needs one descriptor per rank, "
                                        "{} in all: raise `ulimit -n` on its host",
                                        std::generic_category().message(error), num_ranks_ + kMaxStrangers));
      }
      continue;  // the connection was gone before it was accepted
    }
    if (strangers_.size() == num_ranks_ + kMaxStrangers) make_room();
    strangers_.push_back({{Connection(std::move(socket), peer), {}, {}}, Deadline(kHelloLimit)});
  }
  return std::nullopt;
}

// By lot: whoever floods the door cannot choose who goes, and a rank that had to go comes again.
void TcpLobby::make_room() {
  const auto goes = strangers_.begin() + random_below(static_cast<std::uint32_t>(strangers_.size()));
  drop(goes->candidate.connection, "had to make room while too many others came");
  strangers_.erase(goes);
}

void TcpLobby::drop(const Connection& connection, const std::string& reason) {
  warn(fmt::format("rendezvous: dropped a connection from {}, which is none of the ranks: it {}", connection.peer(), reason));
}

void TcpLobby::warn(std::string text) {
  if (num_warnings_ == kMaxWarnings) return;
  if (++num_warnings_ == kMaxWarnings) text += ". More of this kind is not reported";
  log(LogLevel::kWarning, text);
}

}  // namespace tokenyard
