// What can go wrong, and the one exception type that says so.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace tokenyard {

enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  // the caller's input is wrong; nothing was sent
  kStale,            // a handle outlived what it described
  kDisagreement,     // ranks made different calls, or described different shapes
  kTimeout,          // a deadline passed
  kPeerLost,         // a peer died, or left the group
  kUnsupported,      // this build or this host cannot do it
  kSystem,           // the operating system refused; the text carries its reason
};

// The step of a call in which a rank waited. Part of every failure report.
enum class Phase : std::uint8_t {
  kNone,
  kRendezvous,      // ranks find each other
  kMapping,         // ranks pass each other their memory
  kDispatchFree,    // waiting until a peer's slot may be written
  kDispatchCounts,  // waiting for a peer's token counts
  kDispatchRows,    // waiting for a peer's rows
  kCombineFree,     // waiting until a peer's return slots may be written
  kCombineWeights,  // waiting for the weights that a peer gives to its tokens at combine
  kCombineRows,     // waiting for a peer's contributions
  kCombineRead,     // waiting until a peer has read what lies in this rank's slot, or is through with the last combine
  kWindowWait,      // Window::wait
  kBarrier,
};

// "dispatch/counts" and the like.
const char* to_string(Phase phase) noexcept;
const char* to_string(ErrorCode code) noexcept;

// The first thing that went wrong in a group, as far as this rank has heard: when several ranks fail at once, each keeps what
// it heard first. It travels to all ranks and stays until Group::recover().
struct Failure {
  ErrorCode code = ErrorCode::kTimeout;
  Phase phase = Phase::kNone;
  int culprit = -1;   // the rank that was waited for
  int reporter = -1;  // the rank that noticed first
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Error(const Failure& failure, const std::string& message)
      : std::runtime_error(message), code_(failure.code), failure_(failure) {}

  ErrorCode code() const noexcept { return code_; }

  // Meaningful for failures of a group (kTimeout, kPeerLost, kDisagreement, kSystem): who and where. culprit is -1 otherwise.
  const Failure& failure() const noexcept { return failure_; }

 private:
  ErrorCode code_;
  Failure failure_;
};

}  // namespace tokenyard
