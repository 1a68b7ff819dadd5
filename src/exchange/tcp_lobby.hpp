// Rank 0's door: where connections wait until they have said who they are.
//
// All of them are read at once, each has its own limit, and their number is bounded, so that a stranger who says nothing, or
// nonsense, costs the ranks nothing.
#pragma once

#include <poll.h>

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "exchange/admission.hpp"
#include "exchange/connection.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {

class TcpLobby {
 public:
  struct Arrival {
    int rank;
    Connection connection;
  };

  TcpLobby(std::vector<FileDescriptor> listeners, int num_ranks, std::optional<Key> secret);

  std::string where() const;  // the addresses that it listens on

  // For a report on missing ranks: the last process that was turned away, and why; empty if there was none.
  std::string turned_away() const;

  void add_poll_entries(std::vector<pollfd>& entries) const;
  std::chrono::milliseconds until_next_limit() const;  // how long poll() may sleep on the lobby's account

  // Takes in who is at the door and appends the ranks that have joined. Returns why the rendezvous cannot go on, if so;
  // refused() is then the process that does not fit, and waits to be told.
  std::optional<Verdict> admit(std::vector<Arrival>& arrivals);
  Connection* refused() noexcept { return refused_ ? &*refused_ : nullptr; }

 private:
  struct Stranger {
    Admission::Candidate candidate;
    Deadline limit;
  };

  std::optional<Verdict> accept_all(const FileDescriptor& listener);
  void make_room();
  void drop(const Connection& connection, const std::string& reason);
  void warn(std::string text);

  std::vector<FileDescriptor> listeners_;
  int num_ranks_;
  Admission admission_;
  std::deque<Stranger> strangers_;  // oldest first
  std::optional<Connection> refused_;
  std::string last_turned_away_;
  int num_turned_away_ = 0;
  int num_warnings_ = 0;
};

}  // namespace tokenyard
