#include <map>
#include <mutex>
#include <utility>

#include "base/fail.hpp"
#include "memory/unix_socket.hpp"
#include "transport/handle_channel.hpp"

namespace tokenyard {
namespace {

class SocketChannel final : public HandleChannel {
 public:
  SocketChannel(int rank, std::vector<int> members, std::vector<FileDescriptor> sockets)
      : HandleChannel(rank, std::move(members)), sockets_(std::move(sockets)) {}

  std::shared_ptr<MemoryRegion> allocate(std::size_t num_bytes) override { return MemoryRegion::shareable(num_bytes); }

  void publish(std::uint64_t tag, const std::shared_ptr<MemoryRegion>& region, const Deadline& deadline) override {
    const HandleMessage message{tag, region->num_bytes()};
    const std::lock_guard lock(send_mutex_);
    for (const int peer : members()) {
      if (peer == rank()) continue;
      // A peer that is gone is reported by whoever waits for it next, with more to say than could be said here.
      if (send_handle(sockets_[peer].get(), message, region->fd(), deadline) == SocketResult::kTimeout) {
        throw Error(Failure{ErrorCode::kTimeout, Phase::kMapping, peer, rank()},
                    fmt::format("rank {}: rank {} did not take this rank's memory within {} ms", rank(), peer,
                                deadline.timeout().count()));
      }
    }
  }

  std::shared_ptr<MemoryRegion> try_collect(int peer, std::uint64_t tag, std::size_t num_bytes) override {
    const std::lock_guard lock(receive_mutex_);
    auto& mailbox = mailboxes_[peer];
    const Deadline at_once{std::chrono::milliseconds{0}};
    HandleMessage message;
    FileDescriptor fd;
    // Messages for other threads of this rank wait in the mailbox until those ask.
    while (!mailbox.contains(tag) &&
           receive_handle(sockets_[peer].get(), &message, &fd, at_once) == SocketResult::kDone) {
      mailbox[message.tag] = {message.num_bytes, std::exchange(fd, FileDescriptor())};
    }
    const auto entry = mailbox.find(tag);
    if (entry == mailbox.end()) return nullptr;
    Parcel parcel = std::move(entry->second);
    mailbox.erase(entry);
    return MemoryRegion::map(std::move(parcel.fd), num_bytes);
  }

  bool is_gone(int peer) const override { return is_closed(sockets_[peer].get()); }

 private:
  struct Parcel {
    std::uint64_t num_bytes = 0;
    FileDescriptor fd;
  };

  std::vector<FileDescriptor> sockets_;
  std::mutex send_mutex_;
  std::mutex receive_mutex_;
  std::map<int, std::map<std::uint64_t, Parcel>> mailboxes_;  // by sender, then tag
};

}  // namespace

std::unique_ptr<HandleChannel> make_socket_channel(int rank, std::vector<int> members, std::vector<FileDescriptor> sockets) {
  return std::make_unique<SocketChannel>(rank, std::move(members), std::move(sockets));
}

}  // namespace tokenyard
