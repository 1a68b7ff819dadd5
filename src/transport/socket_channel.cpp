#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/fail.hpp"
#include "memory/device_region.hpp"
#include "memory/memory_handle.hpp"
#include "memory/unix_socket.hpp"
#include "transport/handle_channel.hpp"

namespace tokenyard {
namespace {

class SocketChannel final : public HandleChannel {
 public:
  SocketChannel(int rank, std::vector<int> members, std::vector<FileDescriptor> sockets)
      : HandleChannel(rank, std::move(members)), sockets_(std::move(sockets)) {}

  std::shared_ptr<MemoryRegion> allocate(std::size_t num_bytes, const MemoryPlace& place) override {
    return place.on_device() ? make_shareable_device_region(num_bytes, place) : MemoryRegion::shareable(num_bytes);
  }

  void publish(std::uint64_t tag, const std::shared_ptr<MemoryRegion>& region, const Deadline& deadline) override {
    const HandleMessage message = message_of(tag, region->num_bytes(), region->handle());
    for (const int peer : members()) {
      if (peer == rank()) continue;
      // A peer that is gone is reported by whoever waits for it next, with more to say than could be said here.
      while (send_handle(sockets_[peer].get(), message, region->fd()) == SocketResult::kBusy) {
        if (deadline.passed()) {
          throw Error(Failure{ErrorCode::kTimeout, Phase::kMapping, peer, rank()},
                      fmt::format("rank {}: rank {} did not take this rank's memory within {} ms", rank(), peer,
                                  deadline.timeout().count()));
        }
        // All ranks publish at once, and each must make room for the others.
        for (const int sender : members()) empty_socket(sender);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

  std::shared_ptr<MemoryRegion> try_collect(int peer, std::uint64_t tag, std::size_t num_bytes,
                                            const MemoryPlace& place) override {
    empty_socket(peer);
    std::unique_lock lock(mutex_);
    auto& mailbox = mailboxes_[peer];
    const auto entry = mailbox.find(tag);
    if (entry == mailbox.end()) return nullptr;
    Parcel parcel = std::move(entry->second);
    mailbox.erase(entry);
    lock.unlock();
    if (parcel.message.num_bytes != num_bytes) {
      fail(ErrorCode::kDisagreement, "rank {} passed {} bytes of memory where {} were expected", peer, parcel.message.num_bytes,
           num_bytes);
    }
    MemoryHandle handle = handle_of(parcel.message, std::move(parcel.fd));
    if (place.on_device()) return map_device_region(handle, num_bytes, place);
    auto* const descriptor = std::get_if<FileDescriptor>(&handle);
    if (descriptor == nullptr) {
      fail(ErrorCode::kDisagreement, "rank {} passed device memory where host memory was expected", peer);
    }
    return MemoryRegion::map(std::move(*descriptor), num_bytes);
  }

  bool is_gone(int peer) const override { return is_closed(sockets_[peer].get()); }

 private:
  struct Parcel {
    HandleMessage message;
    FileDescriptor fd;
  };

  // Moves what has come from `peer` into its mailbox, where messages for other threads of this rank wait until those ask.
  void empty_socket(int peer) {
    if (peer == rank()) return;
    const std::lock_guard lock(mutex_);
    const Deadline at_once{std::chrono::milliseconds{0}};
    HandleMessage message;
    FileDescriptor fd;
    while (receive_handle(sockets_[peer].get(), &message, &fd, at_once) == SocketResult::kDone) {
      mailboxes_[peer][message.tag] = {message, std::exchange(fd, FileDescriptor())};
    }
  }

  std::vector<FileDescriptor> sockets_;
  std::mutex mutex_;
  std::map<int, std::map<std::uint64_t, Parcel>> mailboxes_;  // by sender, then tag
};

}  // namespace

std::unique_ptr<HandleChannel> make_socket_channel(int rank, std::vector<int> members, std::vector<FileDescriptor> sockets) {
  return std::make_unique<SocketChannel>(rank, std::move(members), std::move(sockets));
}

}  // namespace tokenyard
