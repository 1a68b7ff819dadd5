// Loading kernels ahead of their first launch: done by a launch behind a kernel that waits for another rank, it would wait for
// that one, and so forever where the other rank's launch must come first.
#pragma once

#include <initializer_list>

namespace tokenyard::cuda {

// A static object of every file that has kernels.
class RegisteredKernels {
 public:
  RegisteredKernels(std::initializer_list<const void*> kernels);
};

// Loads all of them for the current device, and lets them take all the shared memory that a block can have: that is a property
// of the kernel, so launches by several threads could not each ask for what they need. To be called before the first launch;
// may be called often.
void load_kernels();

// The address that the runtime knows a kernel by.
template <class... Args>
const void* address_of(void (*kernel)(Args...)) {
  return reinterpret_cast<const void*>(kernel);
}

}  // namespace tokenyard::cuda
