// Starts ranks on this host and waits for them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "tokenyard/exchange.hpp"

namespace tokenyard::cli {

enum class RankKind : std::uint8_t {
  kProcesses,  // children of this process, which meet at a port of the loopback interface
  kThreads,    // threads of this process
};

struct Launch {
  int num_ranks = 1;
  RankKind kind = RankKind::kProcesses;
  // Of the rendezvous; also how long the other ranks may take to end by themselves once one has failed.
  std::chrono::milliseconds timeout{30'000};
};

// Work of one rank. Returns the rank's exit code.
using RankBody = std::function<int(std::shared_ptr<Exchange>)>;

// The same for a rank that meets the others itself: `join` is the collective, blocking rendezvous, to be called once.
using JoinRanks = std::function<std::shared_ptr<Exchange>()>;
using JoiningBody = std::function<int(int rank, const JoinRanks& join)>;

// Runs `work` and returns its result; 1, after writing rank and error to standard error, where it throws.
int run_reporting(int rank, const std::function<int()>& work);

// Runs `body` on every rank and returns the exit code of the program: that of the lowest failed rank, or 0.
//
// Must be called before this process has made any thread. Whatever happens, no child process is left when it returns: once a
// rank has failed the others get the timeout to notice by themselves; SIGINT, SIGTERM and SIGHUP end the children within two
// seconds. Children end with this process even where that is killed.
int launch_ranks(const Launch& launch, const RankBody& body);
int launch_joining_ranks(const Launch& launch, const JoiningBody& body);

}  // namespace tokenyard::cli
