// Who can map whose memory: ranks introduce themselves and the domains follow.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/backoff.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/group.hpp"
#include "transport/handle_channel.hpp"

namespace tokenyard {

struct Topology {
  std::uint64_t group_token = 0;  // equal on all ranks, different for every group
  std::vector<int> domain_of;     // by rank, numbered in the order of their first ranks
  int lowest_rank_of_process = 0;
  bool several_processes = false;
  WaitStyle wait_style = WaitStyle::kYield;
  std::unique_ptr<HandleChannel> channel;  // to the ranks of this rank's domain
  // This rank's GPU, those of its domain's ranks in this process, and the handles for other processes; or host memory.
  MemoryPlace place{};
  int num_ranks_on_gpu = 0;              // of the group, on this rank's GPU
  bool has_lone_rank = false;            // some rank of the domain has a GPU to itself
  std::vector<std::string> obstacles{};  // why ranks of this host are in other domains, a sentence each
};

// Collective, blocking. Throws Error(kDisagreement) where wire versions differ, or some ranks have a GPU and others have none.
Topology detect_topology(Exchange& exchange, const GroupOptions& options);

}  // namespace tokenyard
