// A core for each rank, so that the scheduler's decisions are not part of a measurement.
#pragma once

#include <sched.h>

namespace tokenyard::cli {

// Whether this process may use a core for each of `num_ranks` ranks of this host.
bool has_core_for_each(int num_ranks);

// While it lives, the thread that made it runs on the `rank`-th core of those that it may use. There must be one for each rank.
class CoreBinding {
 public:
  explicit CoreBinding(int rank);
  ~CoreBinding();
  CoreBinding(const CoreBinding&) = delete;
  CoreBinding& operator=(const CoreBinding&) = delete;

 private:
  cpu_set_t before_;
};

}  // namespace tokenyard::cli
