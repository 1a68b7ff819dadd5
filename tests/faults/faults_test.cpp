// Faults injected into the library, one at a time: the random shapes must notice each of them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "base/hooks.hpp"
#include "tests/property/masked_case.hpp"
#include "tests/property/run_case.hpp"

namespace tokenyard::test {
namespace {

// A fixed part of the suite. A fault ends it at the first case in which it shows.
constexpr std::uint64_t kSeed = 1;
constexpr int kNumCases = 64;
constexpr int kNumMaskedCases = 16;
constexpr std::chrono::seconds kLimit{60};

enum ExitCode { kAllRight = 0, kNoticed = 10, kThrew = 11 };

// Ends the process at the first finding, which is told if no fault explains it.
void report(const std::string& fault, const std::string& finding) {
  if (finding.empty()) return;
  if (fault.empty()) std::cerr << finding << std::endl;
  _exit(kNoticed);
}

[[noreturn]] void run_cases(const std::string& fault) {
  setenv("TOKENYARD_FAULT", fault.c_str(), 1);
  try {
    for (int index = 0; index < kNumCases; ++index) {
      report(fault, run_with_threads(make_random_case(kSeed, index)));
    }
    for (int index = 0; index < kNumMaskedCases; ++index) {
      report(fault, run_masked_case(seed_of(kSeed, index)));
    }
  } catch (...) {
    _exit(kThrew);
  }
  _exit(kAllRight);
}

// The exit code of a process in which the library has the fault; minus the signal that ended it otherwise.
int exit_code_with(const std::string& fault) {
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) run_cases(fault);
  int status = 0;
  const auto end = std::chrono::steady_clock::now() + kLimit;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) kill(child, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Faults, are_absent_from_a_library_that_passes) { EXPECT_EQ(exit_code_with(""), kAllRight); }

class Faults : public testing::TestWithParam<std::string> {};

TEST_P(Faults, turn_the_suite_red) { EXPECT_EQ(exit_code_with(GetParam()), kNoticed); }

INSTANTIATE_TEST_SUITE_P(Each, Faults, testing::ValuesIn(fault_names()),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace tokenyard::test
