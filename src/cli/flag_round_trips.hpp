// What no exchange between two ranks can undercut: a flag set in the other's memory, and its answer.
#pragma once

#include <cstdint>

#include "tokenyard/group.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard::cli {

// Ranks 2i and 2i + 1 are partners; the last of an odd number is its own. One trip: the first signals, the second waits for
// it and answers, the first waits for the answer.
class FlagRoundTrips {
 public:
  // Collective.
  explicit FlagRoundTrips(const Group& group);

  // Blocking; both partners call it.
  void run(int num_trips);

 private:
  Window window_;
  int partner_;
  std::uint64_t trip_ = 0;
};

}  // namespace tokenyard::cli
