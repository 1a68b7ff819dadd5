// Channels between ranks of this process, of either kind.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "transport/handle_channel.hpp"

namespace tokenyard::test {

enum class ChannelKind { kThreads, kSockets };

// Element i belongs to rank i; all are members of one domain.
inline std::vector<std::unique_ptr<HandleChannel>> make_channels(ChannelKind kind, int num_ranks) {
  std::vector<int> members(num_ranks);
  std::iota(members.begin(), members.end(), 0);
  std::vector<std::unique_ptr<HandleChannel>> channels;
  if (kind == ChannelKind::kThreads) {
    static std::atomic<std::uint64_t> next_token{1};
    const std::uint64_t token = next_token++;
    for (int rank = 0; rank < num_ranks; ++rank) channels.push_back(make_thread_channel(token, rank, members));
    return channels;
  }
  std::vector<std::vector<FileDescriptor>> sockets(num_ranks);
  for (auto& row : sockets) row.resize(num_ranks);
  for (int low = 0; low < num_ranks; ++low) {
    for (int high = low + 1; high < num_ranks; ++high) {
      int ends[2];
      if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        throw std::runtime_error("socketpair");
      sockets[low][high] = FileDescriptor(ends[0]);
      sockets[high][low] = FileDescriptor(ends[1]);
    }
  }
  for (int rank = 0; rank < num_ranks; ++rank) channels.push_back(make_socket_channel(rank, members, std::move(sockets[rank])));
  return channels;
}

}  // namespace tokenyard::test
