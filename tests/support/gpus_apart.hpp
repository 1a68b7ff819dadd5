// Looks for GPUs without starting CUDA in this process, whose children could not use it then.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernels/cuda/device_array.hpp"

namespace tokenyard::test {

inline int count_gpus_apart() {
  const pid_t child = fork();
  if (child == 0) _exit(count_gpus());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 0;
  return WEXITSTATUS(status);
}

// In the body of a test that forks.
#define SKIP_WITHOUT_GPUS_APART(num_needed) \
  if (::tokenyard::test::count_gpus_apart() < (num_needed)) GTEST_SKIP() << "needs " << (num_needed) << " GPU(s)"

}  // namespace tokenyard::test
