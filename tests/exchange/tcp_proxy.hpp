// Somebody between a rank and rank 0 who reads along, and may change what passes.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "base/file_descriptor.hpp"
#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {

// Carries one connection to the port `target`, frame by frame.
class TcpProxy {
 public:
  using Bytes = std::vector<std::byte>;

  // Gets each frame with its seal, if it has one, and returns what is passed on instead.
  using Pass = std::function<Bytes(bool is_to_rank_zero, Bytes frame)>;

  TcpProxy(std::uint16_t target, Pass pass) : listener_(listen_on_loopback()), pass_(std::move(pass)) {
    thread_ = std::thread([this, target] { carry(target); });
  }
  ~TcpProxy() {
    shutdown(listener_.fd, SHUT_RDWR);  // wakes accept()
    thread_.join();
    close(listener_.fd);
  }

  std::uint16_t port() const { return listener_.port; }

 private:
  struct Side {
    FileDescriptor socket;
    Bytes received;
    bool is_sealed = false;
  };

  void carry(std::uint16_t target) {
    Side rank{FileDescriptor(accept(listener_.fd, nullptr, nullptr)), {}, false};
    if (!rank.socket) return;
    Side rank_zero{connect_stranger(target), {}, false};
    while (true) {
      pollfd entries[] = {{rank.socket.get(), POLLIN, 0}, {rank_zero.socket.get(), POLLIN, 0}};
      poll(entries, 2, -1);
      if (entries[0].revents != 0 && !forward(rank, rank_zero, true)) return;
      if (entries[1].revents != 0 && !forward(rank_zero, rank, false)) return;
    }
  }

  bool forward(Side& from, Side& to, bool is_to_rank_zero) {
    std::byte buffer[65536];
    const ssize_t num_bytes = recv(from.socket.get(), buffer, sizeof(buffer), 0);
    if (num_bytes <= 0) return false;
    from.received.insert(from.received.end(), buffer, buffer + num_bytes);
    while (from.received.size() >= kFrameHeaderBytes) {
      const auto header = decode_header(std::span(from.received).first<kFrameHeaderBytes>());
      if (!header) return false;
      const std::size_t num_frame_bytes = kFrameHeaderBytes + header->num_body_bytes + (from.is_sealed ? sizeof(Mac) : 0);
      if (from.received.size() < num_frame_bytes) return true;
      const auto end = from.received.begin() + static_cast<std::ptrdiff_t>(num_frame_bytes);
      const Bytes passed = pass_(is_to_rank_zero, Bytes(from.received.begin(), end));
      from.received.erase(from.received.begin(), end);
      if (!passed.empty() && send(to.socket.get(), passed.data(), passed.size(), MSG_NOSIGNAL) < 0) return false;
      // The joining rank's proof and rank 0's are the last without a seal.
      if (header->type == FrameType::kAnswer || header->type == FrameType::kAccepted) from.is_sealed = true;
    }
    return true;
  }

  TestListener listener_;
  Pass pass_;
  std::thread thread_;
};

inline FrameType type_of(const std::vector<std::byte>& frame) {
  return decode_header(std::span(frame).first<kFrameHeaderBytes>())->type;
}

}  // namespace tokenyard::test
