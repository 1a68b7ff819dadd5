// How ranks find each other. Small messages only: payloads never pass through an Exchange.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tokenyard {

// An Exchange may be used by one thread of its rank at a time. It outlives no rank: dropping it never blocks.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual int rank() const noexcept = 0;
  virtual int num_ranks() const noexcept = 0;

  // Collective, blocking. Returns every rank's bytes in rank order; lengths may differ, up to 1 MiB each (kInvalidArgument
  // beyond; nothing was sent then). Throws Error(kTimeout) that names the missing ranks when `timeout` passes, of whichever
  // rank's first, and Error(kPeerLost) when a rank has gone. Either ends the Exchange: every later call on any rank throws the
  // same. Where the ranks are processes and rank 0 does not answer, this takes up to two seconds more.
  virtual std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> bytes,
                                                         std::chrono::milliseconds timeout) = 0;

  // Collective, blocking: returns once every rank has called it.
  void barrier(std::chrono::milliseconds timeout) { all_gather({}, timeout); }
};

// Ranks are threads of this process: element i belongs to rank i and may be handed to any thread.
std::vector<std::shared_ptr<Exchange>> make_thread_exchange(int num_ranks);

// Ranks are processes that meet at rank 0's TCP port.
struct TcpRendezvous {
  std::string address = "127.0.0.1";  // of rank 0: host name, IPv4 or IPv6 address
  std::uint16_t port = 29500;         // of rank 0; unused by a rank 0 that has listen_fd
  int rank = 0;
  int num_ranks = 1;
  int local_rank = 0;                         // among the ranks of this host
  std::chrono::milliseconds timeout{60'000};  // for all ranks to arrive
  // Rank 0: an already listening socket (launchers pass one), or -1. It is taken over, and closed when all ranks have arrived
  // or the rendezvous has failed.
  int listen_fd = -1;

  // Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them. Where torchrun's own store
  // occupies MASTER_PORT (TORCHELASTIC_USE_AGENT_STORE=True) the next port is taken; TOKENYARD_PORT overrides both. Logs one
  // line that says what was inferred. Throws Error(kInvalidArgument) that names the variable that is missing or malformed.
  static TcpRendezvous from_environment();
};

// Collective, blocking: returns when all ranks have arrived. Throws Error: kTimeout names the missing ranks; kDisagreement a
// duplicate rank, another world size or another version of the wire format.
std::shared_ptr<Exchange> make_tcp_exchange(const TcpRendezvous& rendezvous);

}  // namespace tokenyard
