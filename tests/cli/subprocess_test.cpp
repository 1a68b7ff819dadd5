#include "cli/subprocess.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

using std::chrono::milliseconds;

TEST(subprocess, returns_what_a_program_writes_and_its_exit_code) {
  const ProgramResult result = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"}, milliseconds(20'000));
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.errors, "err\n");
  EXPECT_FALSE(result.timed_out);
}

TEST(subprocess, long_output_does_not_block_the_program) {
  const ProgramResult result = run_program({"sh", "-c", "yes | head -c 1000000"}, milliseconds(20'000));
  EXPECT_EQ(result.output.size(), 1'000'000U);
}

TEST(subprocess, a_program_that_takes_too_long_is_ended) {
  const auto start = std::chrono::steady_clock::now();
  const ProgramResult result = run_program({"sleep", "60"}, milliseconds(100));
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.exit_code, 128 + 15);
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(20'000));
}

TEST(subprocess, a_program_that_ignores_the_request_is_killed) {
  // Inherited, so that the request finds it ignored however late the program gets a core.
  auto* const before = signal(SIGTERM, SIG_IGN);
  const ProgramResult result = run_program({"sleep", "60"}, milliseconds(100));
  signal(SIGTERM, before);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.exit_code, 128 + 9);
}

TEST(subprocess, a_missing_program_is_an_error) {
  test::expect_error([] { run_program({"/no/such/program"}, milliseconds(1'000)); }, ErrorCode::kSystem,
                     "cannot start /no/such/program: No such file");
}

}  // namespace
}  // namespace tokenyard::cli
