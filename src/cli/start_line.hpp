// Where ranks line up before something is timed.
#pragma once

#include <cstdint>

#include "tokenyard/group.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard::cli {

// A barrier over memory that the ranks share: they leave it closer together than a barrier of the group, whose messages go
// through the kernel one after the other.
class StartLine {
 public:
  // Collective.
  explicit StartLine(const Group& group);

  // Collective, blocking. Throws Error that names the rank which did not come within the group's timeout.
  void wait_for_all();

  // The same over the shared memory alone, which leaves the processor's caches as they are.
  void line_up();

 private:
  Group group_;
  Window window_;
  std::uint64_t round_ = 0;
};

}  // namespace tokenyard::cli
