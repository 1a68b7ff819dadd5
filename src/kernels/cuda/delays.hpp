// Seeded delays inside kernels: what base/hooks.hpp is for hosts. In every build without test hooks there are none.
#pragma once

#ifdef TOKENYARD_TEST_HOOKS

#include <cstdint>

namespace tokenyard::cuda {

// A static object of every file whose kernels have delays; `seed` is a variable of the device.
class RegisteredDelays {
 public:
  explicit RegisteredDelays(const std::uint64_t& seed);
};

// Whether kernels of the current device dawdle before they signal and before they wait, and where; not at all with 0, which it
// is at first. To be called while no kernel of this process waits for another rank.
void set_kernel_delays(std::uint64_t seed);

}  // namespace tokenyard::cuda

#endif
