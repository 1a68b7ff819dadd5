// A port of the loopback interface at which a program's own processes meet.
#pragma once

#include <cstdint>

namespace tokenyard::cli {

class LoopbackListener {
 public:
  // Listens on a free port of 127.0.0.1. Throws Error(kSystem).
  static LoopbackListener open(int num_connections);
  ~LoopbackListener() { close(); }
  LoopbackListener(const LoopbackListener&) = delete;
  LoopbackListener& operator=(const LoopbackListener&) = delete;

  std::uint16_t port() const { return port_; }

  // The listening socket, which the caller then owns.
  int release();

  // Idempotent. A forked child closes its own copy only.
  void close();

 private:
  LoopbackListener(int socket, std::uint16_t port) : socket_(socket), port_(port) {}

  int socket_;
  std::uint16_t port_;
};

}  // namespace tokenyard::cli
