// By what means processes of one host share memory: what Tokenyard uses, and what the programs around it do.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include "base/file_descriptor.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::size_t kProbeBytes = std::size_t{64} << 10;
constexpr std::int64_t kSmallSharedMemory = std::int64_t{64} << 20;  // what container engines give if not asked for more

std::string error_text() { return std::generic_category().message(errno); }

// Makes a file, fills it and removes it. Returns why that is impossible.
std::string try_to_write(const std::string& folder) {
  std::string path = folder + "/tokenyard-doctor-XXXXXX";
  const FileDescriptor file(mkstemp(path.data()));
  if (!file) return error_text();
  unlink(path.c_str());
  const std::vector<char> bytes(kProbeBytes, 'x');
  const ssize_t num_written = write(file.get(), bytes.data(), bytes.size());
  if (num_written < 0) return error_text();
  return num_written == static_cast<ssize_t>(bytes.size()) ? "" : std::generic_category().message(ENOSPC);
}

void judge_shared_memory_folder(SectionFindings& findings) {
  const std::string folder = "/dev/shm";
  const char* user = "Tokenyard's windows need no files there, but OpenMPI, NCCL and PyTorch's data loaders do";
  const char* larger = "mount -o remount,size=50% /dev/shm; docker --shm-size=8g; a memory-backed emptyDir in Kubernetes";
  struct statvfs space{};
  if (statvfs(folder.c_str(), &space) != 0) {
    findings.warning(folder, error_text(), user, "mount -t tmpfs -o mode=1777 tmpfs /dev/shm");
    return;
  }
  const auto num_free = static_cast<std::int64_t>(space.f_bavail * space.f_frsize);
  const auto num_bytes = static_cast<std::int64_t>(space.f_blocks * space.f_frsize);
  const std::string value = fmt::format("{} free of {}", human_bytes(num_free), human_bytes(num_bytes));
  const std::string problem = try_to_write(folder);
  if (problem == std::generic_category().message(ENOSPC)) {
    findings.warning(folder, fmt::format("full: {}", value), user,
                     fmt::format("remove what jobs have left (ls -lt /dev/shm), or make it larger: {}", larger));
  } else if (!problem.empty()) {
    findings.warning(folder, fmt::format("cannot be written: {}", problem), user,
                     "chmod 1777 /dev/shm; mount -o remount,rw /dev/shm");
  } else if (num_free < kSmallSharedMemory) {
    findings.warning(folder, value, user, larger);
  } else {
    findings.ok(folder, value);
  }
}

// The steps that a window takes. Returns the one that failed, and why.
std::string try_sealed_memory() {
  const FileDescriptor file(memfd_create("tokenyard-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return "memfd_create: " + error_text();
  if (ftruncate(file.get(), kProbeBytes) != 0) return "ftruncate: " + error_text();
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) return "sealing: " + error_text();
  void* pages = mmap(nullptr, kProbeBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (pages == MAP_FAILED) return "mmap: " + error_text();
  std::memset(pages, 1, kProbeBytes);
  munmap(pages, kProbeBytes);
  return ftruncate(file.get(), 2 * kProbeBytes) == 0 ? "sealing: a sealed file can still grow" : "";
}

// Passes a descriptor through a socket of the abstract namespace.
std::string try_sockets() {
  const std::string name = fmt::format("tokenyard-doctor-{}", getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // behind a zero: no file
  const auto num_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);

  const FileDescriptor listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!listener) return "socket: " + error_text();
  if (bind(listener.get(), generic, num_bytes) != 0) return "bind: " + error_text();
  if (listen(listener.get(), 1) != 0) return "listen: " + error_text();
  const FileDescriptor sender(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!sender || connect(sender.get(), generic, num_bytes) != 0) return "connect: " + error_text();
  const FileDescriptor receiver(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!receiver) return "accept: " + error_text();

  char letter = 'x';
  iovec part{.iov_base = &letter, .iov_len = 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = sender.get();
  std::memcpy(CMSG_DATA(header), &passed, sizeof(passed));
  if (sendmsg(sender.get(), &message, MSG_NOSIGNAL) != 1) return "sendmsg: " + error_text();
  if (recvmsg(receiver.get(), &message, MSG_CMSG_CLOEXEC) != 1) return "recvmsg: " + error_text();
  header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return "the descriptor did not arrive";
  int arrived = -1;
  std::memcpy(&arrived, CMSG_DATA(header), sizeof(arrived));
  const FileDescriptor closes_it(arrived);
  return "";
}

}  // namespace

Findings probe_sharing() {
  SectionFindings findings(Section::kSharing);
  judge_shared_memory_folder(findings);
  if (const std::string problem = try_sealed_memory(); problem.empty()) {
    findings.ok("sealed memfd", "can be made, sealed and mapped");
  } else {
    findings.failure("sealed memfd", problem, "windows are sealed memfds",
                     "Linux 3.17 or newer; allow memfd_create in the seccomp profile (docker --security-opt seccomp=FILE); "
                     "ulimit -n and ulimit -v must leave room");
  }
  if (const std::string problem = try_sockets(); problem.empty()) {
    findings.ok("UNIX sockets", "abstract names work and pass descriptors");
  } else {
    findings.failure("UNIX sockets", problem, "ranks of a host pass each other their windows through them",
                     "allow abstract UNIX sockets in the AppArmor, SELinux or seccomp profile; ulimit -n must leave room");
  }
  return findings.take();
}

}  // namespace tokenyard::cli
