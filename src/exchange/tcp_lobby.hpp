// Rank 0's door: where connections wait until they have said who they are.
//
// All of them are read at once, each has its own limit, and their number is bounded, so that a stranger who says nothing, or
// nonsense, costs the ranks nothing. A process that does speak Tokenyard but does not fit the job ends the rendezvous: the
// job was started wrongly, and waiting would only hide it.
#pragma once

#include <poll.h>

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "exchange/connection.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {

class TcpLobby {
 public:
  struct Arrival {
    int rank;
    Connection connection;
  };

  TcpLobby(std::vector<FileDescriptor> listeners, int num_ranks);

  std::string where() const;  // the addresses that it listens on

  void add_poll_entries(std::vector<pollfd>& entries) const;
  std::chrono::milliseconds until_next_limit() const;  // how long poll() may sleep on the lobby's account

  // Takes in who is at the door and appends the ranks that have said their hello. Returns why the rendezvous cannot go on, if
  // so; refused() is then the process that does not fit, and waits to be told.
  std::optional<Verdict> admit(std::vector<Arrival>& arrivals);
  Connection* refused() noexcept { return refused_ ? &*refused_ : nullptr; }

 private:
  struct Stranger {
    Connection connection;
    Deadline limit;
  };

  void warn(const Connection& connection, const std::string& reason);
  std::optional<Verdict> accept_all(const FileDescriptor& listener);
  std::optional<Verdict> check(const Frame& frame, const Hello& hello, const std::string& peer) const;

  std::vector<FileDescriptor> listeners_;
  int num_ranks_;
  std::vector<std::string> joined_;  // by rank: from where, or empty
  std::deque<Stranger> strangers_;   // oldest first
  std::optional<Connection> refused_;
  int num_warnings_ = 0;
};

}  // namespace tokenyard
