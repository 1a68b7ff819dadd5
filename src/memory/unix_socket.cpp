#include "memory/unix_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

constexpr int kType = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;

struct Address {
  sockaddr_un address{};
  socklen_t num_bytes;

  explicit Address(const std::string& name) {
    address.sun_family = AF_UNIX;
    // A leading zero byte puts the name into the abstract namespace.
    std::memcpy(address.sun_path + 1, name.data(), std::min(name.size(), sizeof(address.sun_path) - 1));
    num_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// Returns false when the deadline passed first.
bool poll_for(int fd, short events, const Deadline& deadline) {
  pollfd entry{fd, events, 0};
  while (true) {
    const int num_ready = poll(&entry, 1, static_cast<int>(deadline.remaining().count()));
    if (num_ready > 0) return true;
    if (num_ready == 0) return false;
    if (errno != EINTR) fail_system("poll");
  }
}

}  // namespace

FileDescriptor listen_unix(std::string* name) {
  FileDescriptor fd(socket(AF_UNIX, kType, 0));
  if (!fd) fail_system("socket(AF_UNIX)");
  std::uint64_t random[2];
  if (getrandom(random, sizeof(random), 0) != sizeof(random)) fail_system("getrandom");
  *name = fmt::format("tokenyard-{:016x}{:016x}", random[0], random[1]);
  const Address address(*name);
  if (bind(fd.get(), address.get(), address.num_bytes) != 0) fail_system("bind of a UNIX socket");
  if (listen(fd.get(), SOMAXCONN) != 0) fail_system("listen on a UNIX socket");
  return fd;
}

FileDescriptor connect_unix(const std::string& name, const Deadline& deadline) {
  FileDescriptor fd(socket(AF_UNIX, kType, 0));
  if (!fd) fail_system("socket(AF_UNIX)");
  const Address address(name);
  while (connect(fd.get(), address.get(), address.num_bytes) != 0) {
    if (errno != EAGAIN && errno != EINTR) return FileDescriptor();
    if (deadline.passed()) {
      fail(ErrorCode::kTimeout,
           "a rank of this host has too many connections waiting: raise net.core.somaxconn above the number "
           "of ranks per host");
    }
    poll(nullptr, 0, 1);
  }
  return fd;
}

FileDescriptor accept_unix(int listening_fd, const Deadline& deadline) {
  while (poll_for(listening_fd, POLLIN, deadline)) {
    FileDescriptor fd(accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) continue;
      fail_system("accept on a UNIX socket");
    }
    ucred peer{};
    socklen_t num_bytes = sizeof(peer);
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &num_bytes) == 0 && peer.uid == geteuid()) return fd;
  }
  return FileDescriptor();
}

SocketResult send_handle(int socket, const HandleMessage& message, int fd) {
  iovec part{const_cast<HandleMessage*>(&message), sizeof(message)};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  }
  while (sendmsg(socket, &header, MSG_NOSIGNAL) < 0) {
    if (errno == EPIPE || errno == ECONNRESET) return SocketResult::kClosed;
    if (errno == EAGAIN || errno == ETOOMANYREFS) return SocketResult::kBusy;
    if (errno != EINTR) fail_system("sendmsg on a UNIX socket");
  }
  return SocketResult::kDone;
}

SocketResult receive_handle(int socket, HandleMessage* message, FileDescriptor* fd, const Deadline& deadline) {
  while (true) {
    iovec part{message, sizeof(*message)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    const ssize_t num_received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    if (num_received == 0) return SocketResult::kClosed;
    if (num_received < 0) {
      if (errno == ECONNRESET) return SocketResult::kClosed;
      if (errno != EAGAIN && errno != EINTR) fail_system("recvmsg on a UNIX socket");
      if (!poll_for(socket, POLLIN, deadline)) return SocketResult::kTimeout;
      continue;
    }
    const cmsghdr* rights = CMSG_FIRSTHDR(&header);
    if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(rights), sizeof(int));
      *fd = FileDescriptor(received);
    }
    if ((header.msg_flags & MSG_CTRUNC) != 0) {
      fail(ErrorCode::kSystem, "a peer's memory could not be received: this process is out of file descriptors (ulimit -n)");
    }
    if (num_received != sizeof(*message)) {
      fail(ErrorCode::kDisagreement, "a peer sent a message of {} bytes where {} were expected", num_received,
           sizeof(*message));
    }
    return SocketResult::kDone;
  }
}

bool is_closed(int socket) {
  pollfd entry{socket, POLLRDHUP, 0};
  return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace tokenyard
