#include "cli/core_binding.hpp"

#include <cstddef>

namespace tokenyard::cli {
namespace {

// Empty where the host has more cores than the set has places: nobody is bound there.
cpu_set_t allowed_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) CPU_ZERO(&cores);
  return cores;
}

}  // namespace

bool has_core_for_each(int num_ranks) {
  const cpu_set_t cores = allowed_cores();
  return CPU_COUNT(&cores) >= num_ranks;
}

CoreBinding::CoreBinding(int rank) : before_(allowed_cores()) {
  cpu_set_t own;
  CPU_ZERO(&own);
  int num_passed = 0;
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &before_) && num_passed++ == rank) CPU_SET(core, &own);
  }
  if (CPU_COUNT(&own) == 1) sched_setaffinity(0, sizeof(own), &own);
}

CoreBinding::~CoreBinding() {
  if (CPU_COUNT(&before_) > 0) sched_setaffinity(0, sizeof(before_), &before_);
}

}  // namespace tokenyard::cli
