#include "cli/loopback_listener.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/fail.hpp"

namespace tokenyard::cli {

LoopbackListener LoopbackListener::open(int num_connections) {
  const int socket_fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (socket_fd < 0 || bind(socket_fd, generic, length) != 0 || listen(socket_fd, num_connections) != 0 ||
      getsockname(socket_fd, generic, &length) != 0) {
    const int number = errno;
    if (socket_fd >= 0) ::close(socket_fd);
    fail(ErrorCode::kSystem, "cannot listen on 127.0.0.1, where the ranks shall meet: {}",
         std::generic_category().message(number));
  }
  return {socket_fd, ntohs(address.sin_port)};
}

int LoopbackListener::release() { return std::exchange(socket_, -1); }

void LoopbackListener::close() {
  if (socket_ >= 0) ::close(std::exchange(socket_, -1));
}

}  // namespace tokenyard::cli
