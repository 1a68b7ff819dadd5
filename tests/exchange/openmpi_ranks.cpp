// A rank that mpirun starts: it meets the others by the variables of OpenMPI, and again by a function of MPI.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/exchange_ranks.hpp"
#include "tokenyard/error.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard::test {
namespace {

// Nobody can end a collective call of MPI: one that takes too long keeps its memory.
void gather_by_mpi(std::span<const std::byte> block, std::span<std::byte> blocks, std::chrono::milliseconds timeout) {
  auto sent = std::make_unique<std::vector<std::byte>>(block.begin(), block.end());
  auto received = std::make_unique<std::vector<std::byte>>(blocks.size());
  const auto num_bytes = static_cast<int>(block.size());
  MPI_Request request;
  MPI_Iallgather(sent->data(), num_bytes, MPI_BYTE, received->data(), num_bytes, MPI_BYTE, MPI_COMM_WORLD, &request);
  const auto end = std::chrono::steady_clock::now() + timeout;
  int is_done = 0;
  while (MPI_Test(&request, &is_done, MPI_STATUS_IGNORE), is_done == 0) {
    if (std::chrono::steady_clock::now() > end) {
      sent.release();
      received.release();
      throw Error(ErrorCode::kTimeout, "MPI_Iallgather took too long");
    }
    std::this_thread::yield();
  }
  std::copy(received->begin(), received->end(), blocks.begin());
}

void expect_gathering(Exchange& exchange) {
  for (const std::size_t num_bytes : {0, 1, 200, 100'000}) {
    // Other lengths on every rank.
    const auto message_of = [&](int rank) {
      return std::vector<std::byte>(num_bytes * static_cast<std::size_t>(rank), static_cast<std::byte>(rank));
    };
    const auto messages = exchange.all_gather(message_of(exchange.rank()), kAmple);
    for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
      if (messages.at(rank) != message_of(rank)) throw std::runtime_error("wrong bytes of rank " + std::to_string(rank));
    }
  }
}

void run(int rank, int num_ranks) {
  const TcpRendezvous rendezvous = TcpRendezvous::from_environment();
  if (rendezvous.rank != rank || rendezvous.num_ranks != num_ranks || rendezvous.address != "127.0.0.1") {
    throw std::runtime_error("the environment is read wrongly");
  }
  expect_gathering(*make_tcp_exchange(rendezvous));
  expect_gathering(*make_callback_exchange(rank, num_ranks, gather_by_mpi));
}

}  // namespace
}  // namespace tokenyard::test

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int num_ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  try {
    tokenyard::test::run(rank, num_ranks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
}
