#include "exchange/connection.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kBytesAtOnce = std::size_t{1} << 20;

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

Connection::Connection(FileDescriptor socket, const SocketAddress& peer) : socket_(std::move(socket)), peer_(peer.to_string()) {
  const int flags = fcntl(socket_.get(), F_GETFL);
  if (flags < 0 || fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0) fail_system("fcntl");
  const int on = 1;
  setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // a courtesy: slower without, but right
}

Connection::~Connection() {
  if (!socket_) return;
  // Closing a socket with unread bytes resets the connection, and the peer could lose our last words.
  shutdown(socket_.get(), SHUT_WR);
  std::array<std::byte, 4096> discarded;
  for (int i = 0; i < 64 && recv(socket_.get(), discarded.data(), discarded.size(), 0) > 0; ++i) {
  }
}

pollfd Connection::poll_entry() const noexcept {
  const int events = POLLIN | (has_unsent() ? POLLOUT : 0);
  return {.fd = end_ == End::kNone ? socket_.get() : -1, .events = static_cast<short>(events), .revents = 0};
}

void Connection::seal(Key outgoing, Key incoming) {
  outgoing_.emplace(std::move(outgoing));
  incoming_.emplace(std::move(incoming));
}

void Connection::send(SharedFrame frame) {
  if (!can_send_) return;
  std::optional<Mac> seal;
  if (outgoing_) seal = outgoing_->next(frame->digest());
  unsent_.push_back({std::move(frame), seal});
  flush();
}

void Connection::flush() {
  while (!unsent_.empty()) {
    const auto& [frame, seal] = unsent_.front();
    const std::span<const std::byte> bytes = frame->bytes();
    const bool is_in_frame = num_sent_bytes_ < bytes.size();
    const auto rest = is_in_frame ? bytes.subspan(num_sent_bytes_) : std::span(*seal).subspan(num_sent_bytes_ - bytes.size());
    // A seal that follows shall travel in the same packet.
    const int more = is_in_frame && seal ? MSG_MORE : 0;
    const ssize_t num_bytes = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | more);
    if (num_bytes < 0) {
      if (errno == EINTR) continue;
      if (would_block(errno)) return;
      // The peer may have said why before it went: receive() finds that, and then the end.
      can_send_ = false;
      unsent_.clear();
      return;
    }
    num_sent_bytes_ += static_cast<std::size_t>(num_bytes);
    if (num_sent_bytes_ < bytes.size() + (seal ? seal->size() : 0)) continue;
    unsent_.pop_front();
    num_sent_bytes_ = 0;
  }
}

std::optional<Frame> Connection::receive(std::uint64_t max_body_bytes) {
  if (end_ != End::kNone) return std::nullopt;
  if (num_header_bytes_ < kFrameHeaderBytes) {
    if (!fill(header_bytes_, num_header_bytes_)) return std::nullopt;
    const std::optional<FrameHeader> header = decode_header(header_bytes_);
    if (!header) {
      finish(End::kNoFrames, "sent bytes that are no Tokenyard message");
      return std::nullopt;
    }
    if (header->num_body_bytes > max_body_bytes) {
      finish(End::kNoFrames, fmt::format("announced a message of {} bytes where at most {} are allowed", header->num_body_bytes,
                                         max_body_bytes));
      return std::nullopt;
    }
    frame_ = {*header, {}};
    num_body_bytes_ = 0;
    num_seal_bytes_ = 0;
  }
  if (!fill_body() || (incoming_ && !fill_seal())) return std::nullopt;
  num_header_bytes_ = 0;
  return std::exchange(frame_, {});
}

// Memory comes with the bytes, not with their announcement.
bool Connection::fill_body() {
  const std::size_t num_bytes = frame_.header.num_body_bytes;
  do {
    frame_.body.resize(std::min(num_bytes, num_body_bytes_ + kBytesAtOnce));
    if (!fill(frame_.body, num_body_bytes_)) return false;
  } while (frame_.body.size() < num_bytes);
  return true;
}

bool Connection::fill_seal() {
  if (!fill(received_seal_, num_seal_bytes_)) return false;
  if (is_equal(received_seal_, incoming_->next(digest_of({header_bytes_, frame_.body})))) return true;
  finish(End::kNoFrames, "sent a message whose seal does not match: somebody on the way has changed, added or removed bytes");
  return false;
}

// Returns whether `destination` is full.
bool Connection::fill(std::span<std::byte> destination, std::size_t& num_filled) {
  while (num_filled < destination.size()) {
    const ssize_t num_bytes = recv(socket_.get(), destination.data() + num_filled, destination.size() - num_filled, 0);
    if (num_bytes > 0) {
      num_filled += static_cast<std::size_t>(num_bytes);
    } else if (num_bytes == 0) {
      finish(End::kClosed, "closed the connection");
      return false;
    } else if (errno != EINTR) {
      if (!would_block(errno))
        finish(End::kClosed, fmt::format("broke the connection: {}", std::generic_category().message(errno)));
      return false;
    }
  }
  return true;
}

void Connection::finish(End end, std::string reason) {
  end_ = end;
  end_reason_ = std::move(reason);
  can_send_ = false;
  unsent_.clear();
}

void poll_for(std::span<pollfd> entries, std::chrono::milliseconds timeout) {
  const Deadline deadline(timeout);
  while (poll(entries.data(), entries.size(), static_cast<int>(deadline.remaining().count())) < 0) {
    if (errno != EINTR) fail_system("poll");
  }
}

void flush_all(std::span<Connection* const> connections, const Deadline& deadline) {
  while (true) {
    std::vector<Connection*> waiting;
    std::vector<pollfd> entries;
    for (Connection* connection : connections) {
      if (!connection->has_unsent()) continue;
      waiting.push_back(connection);
      entries.push_back(connection->poll_entry());
      entries.back().events = POLLOUT;
    }
    if (waiting.empty() || deadline.passed()) return;
    poll_for(entries, deadline.remaining());
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      if (entries[i].revents != 0) waiting[i]->flush();
    }
  }
}

}  // namespace tokenyard
