#include "group/gather_call.hpp"

#include <algorithm>
#include <cstring>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

const char* to_string(GroupCall call) {
  switch (call) {
    case GroupCall::kWindow: return "Group::window";
    case GroupCall::kPlan: return "Group::plan";
    case GroupCall::kBarrier: return "Group::barrier";
    case GroupCall::kRecover: return "Group::recover";
  }
  return "another use of the Exchange";
}

}  // namespace

std::vector<std::vector<std::byte>> gather_call(Exchange& exchange, GroupCall call, std::span<const std::byte> bytes,
                                                std::chrono::milliseconds timeout) {
  std::vector<std::byte> mine(sizeof(call));
  std::memcpy(mine.data(), &call, sizeof(call));
  mine.insert(mine.end(), bytes.begin(), bytes.end());
  auto gathered = exchange.all_gather(mine, timeout);
  for (std::size_t rank = 0; rank < gathered.size(); ++rank) {
    GroupCall theirs{};
    std::memcpy(&theirs, gathered[rank].data(), std::min(gathered[rank].size(), sizeof(theirs)));
    if (gathered[rank].size() < sizeof(theirs) || theirs != call) {
      const int culprit = static_cast<int>(rank);
      throw Error(Failure{ErrorCode::kDisagreement, Phase::kNone, culprit, exchange.rank()},
                  fmt::format("rank {} calls {} and rank {} {}: calls on a group must come in the same order on all ranks",
                              exchange.rank(), to_string(call), rank, to_string(theirs)));
    }
    gathered[rank].erase(gathered[rank].begin(), gathered[rank].begin() + sizeof(theirs));
  }
  return gathered;
}

}  // namespace tokenyard
