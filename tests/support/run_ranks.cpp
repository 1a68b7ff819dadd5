#include "tests/support/run_ranks.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <thread>

namespace tokenyard::test {
namespace {

// A listening loopback socket on a port that the system chooses.
int listen_on_any_port(std::uint16_t* port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t num_bytes = sizeof(address);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, SOMAXCONN) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &num_bytes) != 0) {
    throw std::runtime_error("cannot listen on loopback");
  }
  *port = ntohs(address.sin_port);
  return fd;
}

[[noreturn]] void run_child(const TcpRendezvous& rendezvous, const std::function<void(std::shared_ptr<Exchange>)>& body) {
  int exit_code = 0;
  try {
    body(make_tcp_exchange(rendezvous));
    if (::testing::Test::HasFailure()) exit_code = 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", rendezvous.rank, error.what());
    exit_code = 1;
  }
  std::fflush(nullptr);
  _exit(exit_code);
}

}  // namespace

void run_thread_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body) {
  auto exchanges = make_thread_exchange(num_ranks);
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(std::move(exchanges[rank]));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
}

std::vector<ProcessResult> run_process_ranks(int num_ranks, const std::function<void(std::shared_ptr<Exchange>)>& body,
                                             std::chrono::milliseconds limit) {
  TcpRendezvous rendezvous;
  rendezvous.num_ranks = num_ranks;
  const int listening_fd = listen_on_any_port(&rendezvous.port);
  std::fflush(nullptr);
  std::vector<pid_t> children(num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    rendezvous.rank = rendezvous.local_rank = rank;
    rendezvous.listen_fd = rank == 0 ? listening_fd : -1;
    children[rank] = fork();
    if (children[rank] < 0) throw std::runtime_error("fork failed");
    if (children[rank] == 0) {
      if (rank != 0) close(listening_fd);
      run_child(rendezvous, body);
    }
  }
  close(listening_fd);

  std::vector<ProcessResult> results(num_ranks);
  const auto end = std::chrono::steady_clock::now() + limit;
  for (int rank = 0; rank < num_ranks; ++rank) {
    int status = 0;
    while (waitpid(children[rank], &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) kill(children[rank], SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    if (WIFEXITED(status)) results[rank].exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) results[rank].signal = WTERMSIG(status);
  }
  return results;
}

}  // namespace tokenyard::test
