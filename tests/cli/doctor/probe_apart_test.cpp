#include "cli/doctor/probe_apart.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <stdexcept>

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// The value of the line that comes back, from the probe or in its stead.
std::string value_of(const std::function<Findings()>& probe, std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  const Findings findings = probe_apart(probe, timeout, [](const std::string& loss) {
    SectionFindings lost(Section::kGpus);
    lost.warning("driver", "lost: " + loss, "", "cure");
    return lost.take();
  });
  return findings.size() == 1 ? findings[0].value : "";
}

TEST(probe_apart, brings_back_what_the_probe_found) {
  const pid_t parent = getpid();
  const std::string long_text(200'000, 'x');  // more than a pipe holds
  EXPECT_EQ(value_of([&] {
              SectionFindings findings(Section::kGpus);
              findings.ok("driver", getpid() == parent ? "the same process" : long_text);
              std::puts("this text would disturb the page");
              return findings.take();
            }),
            long_text);
}

TEST(probe_apart, survives_a_crash) {
  EXPECT_EQ(value_of([]() -> Findings {
              raise(SIGKILL);
              return {};
            }),
            "lost: killed by signal 9 (Killed)");
  EXPECT_EQ(value_of([]() -> Findings { _exit(3); }), "lost: ended without an answer");
  EXPECT_EQ(value_of([]() -> Findings { throw std::runtime_error("oh"); }), "lost: ended without an answer");
}

TEST(probe_apart, does_not_wait_for_what_hangs) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(value_of(
                []() -> Findings {
                  while (true) pause();
                },
                std::chrono::milliseconds(100)),
            "lost: no answer within 100 ms");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process was left";
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace tokenyard::cli
