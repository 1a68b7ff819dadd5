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

constexpr int kAcceptsPerTurn = 64;  // then those who are in are heard before more come
constexpr int kMaxWarnings = 10;     // a flood shall not fill the log

Verdict misfit(int rank, std::string text) {
  return make_verdict(ErrorCode::kDisagreement, rank, 0, "rendezvous: " + std::move(text));
}

}  // namespace

TcpLobby::TcpLobby(std::vector<FileDescriptor> listeners, int num_ranks)
    : listeners_(std::move(listeners)), num_ranks_(num_ranks), joined_(num_ranks) {
  joined_[0] = where();
}

std::string TcpLobby::where() const {
  std::string text;
  for (const FileDescriptor& listener : listeners_) {
    if (!text.empty()) text += " and ";
    text += local_address(listener.get()).to_string();
  }
  return text;
}

void TcpLobby::add_poll_entries(std::vector<pollfd>& entries) const {
  for (const FileDescriptor& listener : listeners_) entries.push_back({.fd = listener.get(), .events = POLLIN, .revents = 0});
  for (const Stranger& stranger : strangers_) entries.push_back(stranger.connection.poll_entry());
}

std::chrono::milliseconds TcpLobby::until_next_limit() const {
  return strangers_.empty() ? kLongestTimeout : strangers_.front().limit.remaining();
}

std::optional<Verdict> TcpLobby::admit(std::vector<Arrival>& arrivals) {
  for (const FileDescriptor& listener : listeners_) {
    if (std::optional<Verdict> verdict = accept_all(listener)) return verdict;
  }
  for (auto stranger = strangers_.begin(); stranger != strangers_.end();) {
    Connection& connection = stranger->connection;
    const std::optional<Frame> frame = connection.receive(kMaxHelloBytes);
    if (frame) {
      const std::optional<Hello> hello = frame->header.type == FrameType::kHello ? decode_hello(frame->body) : std::nullopt;
      if (!hello) {
        warn(connection, "sent a message that is no hello");
      } else if (std::optional<Verdict> verdict = check(*frame, *hello, connection.peer())) {
        refused_ = std::move(connection);
        strangers_.erase(stranger);
        return verdict;
      } else {
        joined_[hello->rank] = connection.peer();
        arrivals.push_back({static_cast<int>(hello->rank), std::move(connection)});
      }
    } else if (connection.end() != Connection::End::kNone) {
      warn(connection, connection.end_reason());
    } else if (stranger->limit.passed()) {
      warn(connection, fmt::format("sent no hello within {} ms", kHelloLimit.count()));
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
    FileDescriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
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
    if (strangers_.size() == num_ranks_ + kMaxStrangers) {
      warn(strangers_.front().connection, "said nothing while too many others came");
      strangers_.pop_front();
    }
    strangers_.push_back({Connection(std::move(socket)), Deadline(kHelloLimit)});
  }
  return std::nullopt;
}

void TcpLobby::warn(const Connection& connection, const std::string& reason) {
  if (num_warnings_ == kMaxWarnings) return;
  const char* end = ++num_warnings_ == kMaxWarnings ? ". More of them are not reported" : "";
  log(LogLevel::kWarning, fmt::format("rendezvous: dropped a connection from {}, which is none of the ranks: it {}{}",
                                      connection.peer(), reason, end));
}

std::optional<Verdict> TcpLobby::check(const Frame& frame, const Hello& hello, const std::string& peer) const {
  const int rank = static_cast<int>(hello.rank);
  if (frame.header.version != kWireVersion) {
    return misfit(rank, fmt::format("rank {} ({}) speaks version {} of the wire format and rank 0 version {}: install the "
                                    "same Tokenyard for all ranks",
                                    hello.rank, peer, frame.header.version, kWireVersion));
  }
  if (hello.num_ranks != static_cast<std::uint32_t>(num_ranks_)) {
    return misfit(rank, fmt::format("rank {} ({}) was started for {} ranks and rank 0 for {}: give all ranks the same "
                                    "WORLD_SIZE (TcpRendezvous::num_ranks)",
                                    hello.rank, peer, hello.num_ranks, num_ranks_));
  }
  if (hello.rank >= hello.num_ranks) {
    return misfit(rank, fmt::format("{} says that it is rank {} of {}: ranks count from 0", peer, hello.rank, hello.num_ranks));
  }
  if (!joined_[hello.rank].empty()) {
    return misfit(rank, fmt::format("two processes say that they are rank {}, at {} and {}: give each its own RANK "
                                    "(TcpRendezvous::rank)",
                                    rank, joined_[hello.rank], peer));
  }
  return std::nullopt;
}

}  // namespace tokenyard
