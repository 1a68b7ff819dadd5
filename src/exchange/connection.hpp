// A TCP connection that carries frames. Nothing here blocks: the owner polls.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "exchange/seal.hpp"
#include "exchange/socket_address.hpp"
#include "exchange/tcp_wire.hpp"

namespace tokenyard {

class Connection {
 public:
  enum class End : std::uint8_t {
    kNone,      // it still works
    kClosed,    // the peer closed it, or it broke
    kNoFrames,  // the peer sends something else, or more than it may, or a seal that does not match
  };

  // Takes a connected socket and makes it non-blocking and prompt (TCP_NODELAY). The peer is told by the caller, because it may
  // have gone already, and the socket no longer knows it then.
  Connection(FileDescriptor socket, const SocketAddress& peer);
  // Sends what the kernel has taken, and nothing more.
  ~Connection();
  Connection(Connection&&) noexcept = default;
  Connection& operator=(Connection&&) noexcept = default;

  const std::string& peer() const noexcept { return peer_; }  // "10.0.0.2:40312"

  // What to poll for; entries of ended connections are ignored by poll().
  pollfd poll_entry() const noexcept;

  // From the next frame on, in both directions: both sides have proved themselves, and every frame shows it.
  void seal(Key outgoing, Key incoming);

  // Appends to what is to be sent, and sends what the kernel takes.
  void send(SharedFrame frame);
  void flush();
  bool has_unsent() const noexcept { return !unsent_.empty(); }

  // The next frame, if all of it has arrived. A body may have up to `max_body_bytes`.
  std::optional<Frame> receive(std::uint64_t max_body_bytes);

  // Nothing more will be received, and all that came was. The reason reads on from "it ".
  End end() const noexcept { return end_; }
  const std::string& end_reason() const noexcept { return end_reason_; }

 private:
  struct Unsent {
    SharedFrame frame;
    std::optional<Mac> seal;
  };

  bool fill_body();
  bool fill_seal();
  bool fill(std::span<std::byte> destination, std::size_t& num_filled);
  void finish(End end, std::string reason);

  FileDescriptor socket_;
  std::string peer_;
  std::optional<Seal> outgoing_;
  std::optional<Seal> incoming_;
  std::deque<Unsent> unsent_;
  std::size_t num_sent_bytes_ = 0;  // of the first of unsent_
  bool can_send_ = true;
  std::array<std::byte, kFrameHeaderBytes> header_bytes_{};
  std::size_t num_header_bytes_ = 0;
  Frame frame_;  // being received
  std::size_t num_body_bytes_ = 0;
  Mac received_seal_{};
  std::size_t num_seal_bytes_ = 0;
  End end_ = End::kNone;
  std::string end_reason_;
};

// poll() that outlives signals. Returns when an entry is ready or the time is over.
void poll_for(std::span<pollfd> entries, std::chrono::milliseconds timeout);

// Sends until nothing is left or the deadline has passed.
void flush_all(std::span<Connection* const> connections, const Deadline& deadline);

}  // namespace tokenyard
