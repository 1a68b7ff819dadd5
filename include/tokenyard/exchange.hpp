// How ranks find each other. Small messages only: payloads never pass through an Exchange.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
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
//
// With a secret, both sides prove that they know it before anything else is believed, and every message carries a seal: who
// does not know the secret can neither join nor speak for a rank. Nothing is encrypted. Without one, only loopback addresses
// are served and contacted, and every process of this host may join. docs/rendezvous.md says what that protects from.
struct TcpRendezvous {
  std::string address = "127.0.0.1";  // of rank 0: host name, IPv4 or IPv6 address
  std::uint16_t port = 29500;         // of rank 0; unused by a rank 0 that has listen_fd
  int rank = 0;
  int num_ranks = 1;
  int local_rank = 0;                         // among the ranks of this host: for the caller's use
  std::chrono::milliseconds timeout{60'000};  // for all ranks to arrive
  // Rank 0: an already listening socket (launchers pass one), or -1. It is taken over, and closed when all ranks have arrived
  // or the rendezvous has failed.
  int listen_fd = -1;
  // Equal on all ranks, 16 to 4,096 bytes that nobody can guess; empty: none. No log line and no error shows it.
  std::string secret;

  // Reads what the launcher of this process has set, the first of these that is there:
  //   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
  //   OpenMPI   OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_RANK
  //   Slurm     SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, SLURM_LOCALID, SLURM_STEP_NODELIST or SLURM_JOB_NODELIST
  // MASTER_ADDR and MASTER_PORT count with each of them. Without, ranks on one host meet on loopback, others at the first of
  // Slurm's hosts; the port follows from the job's id (docs/rendezvous.md). Where torchrun's own store occupies MASTER_PORT
  // (TORCHELASTIC_USE_AGENT_STORE=True) the next port is taken; TOKENYARD_PORT overrides all of these. Logs one line that says
  // what was inferred. Throws Error(kInvalidArgument) that names a variable that is missing or malformed, or two that
  // contradict each other.
  static TcpRendezvous from_environment();

  // "torchrun", "OpenMPI" or "Slurm": whose variables from_environment() would read; empty if there are none. A batch script of
  // Slurm is no rank but starts them itself, so SLURM_PROCID counts only inside a step. Looks at no values.
  static std::string launcher_from_environment();

  // Part of from_environment(): this rank's number among those of its host; 0 without a launcher. Looks at nothing else.
  static int local_rank_from_environment();

  // Part of from_environment(): the value of TOKENYARD_SECRET, or what stands in the file that TOKENYARD_SECRET_FILE names
  // (without the end of its line), a regular file that belongs to this user and that nobody else may read; empty if neither is
  // set. Throws Error(kInvalidArgument) with the cure.
  static std::string secret_from_environment();
};

// Collective, blocking: returns when all ranks have arrived. Throws Error: kTimeout names the missing ranks; kDisagreement a
// duplicate rank, another world size, another version of the wire format or another secret; kInvalidArgument an address
// beyond loopback without a secret.
std::shared_ptr<Exchange> make_tcp_exchange(const TcpRendezvous& rendezvous);

// Ranks are processes of one user that can all read and write a directory, which may be on a network file system.
//
// They meet in `path`/tokenyard-`job`, which nobody else can enter (mode 0700) and which the last rank that leaves removes.
// `job` is made of letters, digits, '.', '-' and '_' and names one Exchange at a time: when all ranks have left it, it may be
// used again. What a killed job has left behind disturbs no job of another name, and is reported to one of the same.
//
// Collective, blocking: returns when all ranks have arrived. Throws Error: kTimeout names the missing ranks; kDisagreement a
// duplicate rank, another number of ranks, another version, or a file that Tokenyard did not write; kInvalidArgument a
// directory that is not there, or belongs to another user. A rank that is killed is noticed when a deadline passes.
std::shared_ptr<Exchange> make_directory_exchange(const std::string& path, int rank, int num_ranks, const std::string& job,
                                                  std::chrono::milliseconds timeout);

// Gathers one block per rank: `block` has the same length on all ranks, and `blocks` has room for num_ranks of it, to be filled
// in rank order. Collective, called by the thread that called the Exchange. It should return or throw within `timeout`, since
// nobody can end it: with MPI, MPI_Iallgather and MPI_Test until then (docs/rendezvous.md has an example).
using GatherBlocks =
    std::function<void(std::span<const std::byte> block, std::span<std::byte> blocks, std::chrono::milliseconds timeout)>;

// Ranks that have found each other already, by MPI or torch.distributed. Not blocking. An exception of the function ends the
// Exchange on this rank; an Error keeps its code and culprit, any other becomes Error(kSystem). The other ranks learn of that,
// and of a rank that leaves, by the same function only. What comes back is checked: blocks that are missing, out of order
// or of another round are Error(kDisagreement).
std::shared_ptr<Exchange> make_callback_exchange(int rank, int num_ranks, GatherBlocks gather_blocks);

}  // namespace tokenyard
