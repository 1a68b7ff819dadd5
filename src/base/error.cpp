#include "tokenyard/error.hpp"

#include <cerrno>
#include <system_error>

#include "base/fail.hpp"

namespace tokenyard {

const char* to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::kNone: return "no phase";
    case Phase::kRendezvous: return "rendezvous";
    case Phase::kMapping: return "mapping";
    case Phase::kDispatchFree: return "dispatch/free";
    case Phase::kDispatchCounts: return "dispatch/counts";
    case Phase::kDispatchRows: return "dispatch/rows";
    case Phase::kCombineFree: return "combine/free";
    case Phase::kCombineWeights: return "combine/weights";
    case Phase::kCombineRows: return "combine/rows";
    case Phase::kCombineRead: return "combine/read";
    case Phase::kWindowWait: return "window/wait";
    case Phase::kBarrier: return "barrier";
  }
  return "unknown phase";
}

const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid argument";
    case ErrorCode::kStale: return "stale";
    case ErrorCode::kDisagreement: return "disagreement";
    case ErrorCode::kTimeout: return "timeout";
    case ErrorCode::kPeerLost: return "peer lost";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kSystem: return "system error";
  }
  return "unknown error";
}

void fail_system(const char* what) {
  const int number = errno;
  fail(ErrorCode::kSystem, "{}: {} (errno {})", what, std::generic_category().message(number), number);
}

}  // namespace tokenyard
