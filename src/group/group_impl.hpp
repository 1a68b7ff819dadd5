// What a Group holds.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tokenyard/group.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

class Group::Impl {
 public:
  Impl(std::shared_ptr<Exchange> exchange, const GroupOptions& options);

  template <class Body>
  auto in_exchange(Phase phase, Body&& body);

  std::shared_ptr<Exchange> exchange_;
  GroupOptions options_;
  std::uint64_t token_ = 0;
  std::vector<int> domain_of_;
  std::vector<std::string> obstacles_;  // why ranks of this host are in other domains
  int num_ranks_on_gpu_ = 0;            // this rank's GPU
  bool has_lone_rank_ = false;          // on a GPU of its own
  std::shared_ptr<Peers> peers_;
  std::uint32_t num_plans_ = 0;
  std::uint32_t num_windows_ = 0;
  std::uint64_t num_barriers_ = 0;
  std::vector<std::weak_ptr<Plan::Impl>> plans_;  // to be reset by recover
};

}  // namespace tokenyard
