// How the ranks of a domain hand each other memory: a mailbox of regions, told apart by tags.
//
// Tags keep collective calls of different plans apart, so that two threads of a rank may create or grow memory at the same
// time. Thread ranks pass a pointer (thread_channel.cpp), process ranks a handle (socket_channel.cpp). The channel is
// also what notices that a peer is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "memory/memory_region.hpp"

namespace tokenyard {

class HandleChannel {
 public:
  // Members are the ranks of the domain, this rank included.
  HandleChannel(int rank, std::vector<int> members) : rank_(rank), members_(std::move(members)) {}
  virtual ~HandleChannel() = default;

  int rank() const noexcept { return rank_; }
  const std::vector<int>& members() const noexcept { return members_; }

  // Memory that this channel can pass on, on the host or on a device. Between processes, that of a device is passed on by a
  // handle of the kind place.handle.
  virtual std::shared_ptr<MemoryRegion> allocate(std::size_t num_bytes, const MemoryPlace& place = {}) = 0;

  // Offers `region` to all other members under `tag`. Does not wait for them.
  virtual void publish(std::uint64_t tag, const std::shared_ptr<MemoryRegion>& region, const Deadline& deadline) = 0;

  // Takes what `peer` published under `tag`, `num_bytes` long. Returns nullptr if it has not come yet: poll again. `place` says
  // whether that is host or device memory, and which GPUs of this process are to reach it.
  virtual std::shared_ptr<MemoryRegion> try_collect(int peer, std::uint64_t tag, std::size_t num_bytes,
                                                    const MemoryPlace& place = {}) = 0;

  // Whether the peer's process or thread has dropped its end. Never blocks.
  virtual bool is_gone(int peer) const = 0;

 private:
  int rank_;
  std::vector<int> members_;
};

// For ranks that are threads of this process. `token` names the group within the process.
std::unique_ptr<HandleChannel> make_thread_channel(std::uint64_t token, int rank, std::vector<int> members);

// For ranks that are processes of this host. sockets[r] is connected with rank r (empty for this rank and for non-members).
std::unique_ptr<HandleChannel> make_socket_channel(int rank, std::vector<int> members, std::vector<FileDescriptor> sockets);

}  // namespace tokenyard
