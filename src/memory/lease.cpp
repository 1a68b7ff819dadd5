#include "memory/lease.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "base/fail.hpp"
#include "memory/unix_socket.hpp"

namespace tokenyard {

FileDescriptor Lease::hand_out() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail_system("pipe2");
  FileDescriptor own(ends[0]);
  FileDescriptor handed_out(ends[1]);
  const std::lock_guard lock(mutex_);
  own_ends_.push_back(std::move(own));
  return handed_out;
}

// A pipe hangs up when the last copy of its other end is closed.
bool Lease::is_held() {
  const std::lock_guard lock(mutex_);
  std::erase_if(own_ends_, [](const FileDescriptor& end) { return is_closed(end.get()); });
  return !own_ends_.empty();
}

FileDescriptor copy_of(const FileDescriptor& fd) {
  FileDescriptor copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) fail_system("fcntl(F_DUPFD_CLOEXEC)");
  return copy;
}

}  // namespace tokenyard
