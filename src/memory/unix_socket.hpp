// UNIX sockets in the abstract namespace: they carry file descriptors between processes of one host and leave no file behind.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"

namespace tokenyard {

// A message is these words and at most one file descriptor. What kind and bytes mean says memory_handle.hpp.
struct HandleMessage {
  std::uint64_t tag = 0;
  std::uint64_t num_bytes = 0;
  std::uint64_t kind = 0;
  std::array<std::byte, 64> bytes{};
};
static_assert(sizeof(HandleMessage) == 88);  // docs/layout.md

// Listens on a name nobody else has; returns it.
FileDescriptor listen_unix(std::string* name);

// Connects to `name`, or returns an empty descriptor if nobody listens there (another network namespace, a dead process).
// Throws Error(kTimeout) if the listener has too many connections waiting and accepts none before the deadline.
FileDescriptor connect_unix(const std::string& name, const Deadline& deadline);

// Accepts a connection of the same user; an empty descriptor when the deadline has passed. Other users are turned away.
FileDescriptor accept_unix(int listening_fd, const Deadline& deadline);

enum class SocketResult : std::uint8_t { kDone, kBusy, kTimeout, kClosed };

// Sends `message`, with `fd` if it is not -1. Never blocks: kBusy means that the system holds as many messages or descriptors
// under way as it will, until somebody receives some.
SocketResult send_handle(int socket, const HandleMessage& message, int fd);

// Receives the next message and the descriptor that came with it, if any.
SocketResult receive_handle(int socket, HandleMessage* message, FileDescriptor* fd, const Deadline& deadline);

// Whether the other end has been closed, by its owner or by its death. Never blocks.
bool is_closed(int socket);

}  // namespace tokenyard
