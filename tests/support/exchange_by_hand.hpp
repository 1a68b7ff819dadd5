// The TCP exchange's messages by hand: for processes that are no ranks, or odd ones.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/file_descriptor.hpp"
#include "exchange/tcp_wire.hpp"

namespace tokenyard::test {

inline void send_bytes(const FileDescriptor& socket, const std::vector<std::byte>& bytes) {
  const ssize_t num_bytes = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (num_bytes != static_cast<ssize_t>(bytes.size())) throw std::runtime_error("cannot send");
}

// Everything until the other side closes.
inline std::vector<std::byte> receive_all(const FileDescriptor& socket) {
  const timeval limit{.tv_sec = 20, .tv_usec = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  std::vector<std::byte> received;
  std::byte buffer[4096];
  for (ssize_t num_bytes; (num_bytes = recv(socket.get(), buffer, sizeof(buffer), 0)) > 0;) {
    received.insert(received.end(), buffer, buffer + num_bytes);
  }
  return received;
}

inline FileDescriptor connect_stranger(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  FileDescriptor stranger(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(stranger.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    throw std::runtime_error("cannot connect");
  }
  return stranger;
}

inline std::vector<std::byte> hello_of(std::uint32_t version, std::uint32_t num_ranks, std::uint32_t rank) {
  std::vector<std::byte> body = encode_hello({.num_ranks = num_ranks, .rank = rank});
  std::vector<std::byte> bytes = encode_header({.version = version, .type = FrameType::kHello, .num_body_bytes = body.size()});
  for (const std::byte byte : body) bytes.push_back(byte);
  return bytes;
}

// The verdict in what a stranger was sent.
inline std::optional<Verdict> verdict_in(const std::vector<std::byte>& received) {
  if (received.size() < kFrameHeaderBytes) return std::nullopt;
  const auto header = decode_header(std::span(received).first<kFrameHeaderBytes>());
  if (!header || header->type != FrameType::kFailed) return std::nullopt;
  return decode_verdict(std::span(received).subspan(kFrameHeaderBytes));
}

// Says hello and returns once rank 0 has taken it in.
inline FileDescriptor join_by_hand(std::uint16_t port, std::uint32_t num_ranks, std::uint32_t rank) {
  FileDescriptor socket = connect_stranger(port);
  send_bytes(socket, hello_of(kWireVersion, num_ranks, rank));
  std::vector<std::byte> answer(kFrameHeaderBytes);
  if (recv(socket.get(), answer.data(), answer.size(), MSG_WAITALL) != static_cast<ssize_t>(answer.size())) {
    throw std::runtime_error("rank 0 does not answer");
  }
  const auto header = decode_header(std::span(answer).first<kFrameHeaderBytes>());
  if (!header || header->type != FrameType::kAccepted) throw std::runtime_error("rank 0 does not accept the hello");
  return socket;
}

inline void hang_up(FileDescriptor&& socket) { const FileDescriptor closed = std::move(socket); }

}  // namespace tokenyard::test
