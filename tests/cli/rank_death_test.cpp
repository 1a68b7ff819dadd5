// What becomes of the ranks' processes when something ends in the middle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Starts a benchmark that would run for hours, runs `interference` (shell text; $program is the process, $3 its third child)
// once the ranks are at work, and writes a line for every child that still runs at the end. Ends with the benchmark's exit
// code.
ProgramResult interfere(const std::string& interference) {
  const std::string script = std::string("program_path=") + TOKENYARD_PROGRAM + R"(
    $program_path bench --ranks 4 --tokens 64 --hidden 256 --experts 16 --top-k 4 --iters 1000000 --timeout 6 &
    program=$!
    sleep 1
    children=$(cat /proc/$program/task/$program/children)
    set -- $children
    )" + interference + R"(
    wait $program
    code=$?
    sleep 0.2
    for child in $children; do
      state=$(cut -d ' ' -f 3 /proc/$child/stat 2>/dev/null)
      case $state in
        '' | Z) ;;  # gone, or waiting for init to take note
        *) echo "left: $child" ;;
      esac
    done
    exit $code)";
  return run_program({"env", "-u", "RANK", "-u", "WORLD_SIZE", "sh", "-c", script}, std::chrono::seconds(60));
}

TEST(rank_death, the_others_name_a_killed_rank_and_nothing_is_left) {
  const ProgramResult result = interfere("kill -KILL $3");
  EXPECT_EQ(result.exit_code, 1) << result.errors;
  EXPECT_FALSE(result.timed_out);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("rank 2 (process"), HasSubstr("was killed by signal 9")));
  for (const char* survivor : {"[rank 0]", "[rank 1]", "[rank 3]"}) EXPECT_THAT(result.errors, HasSubstr(survivor));
  // The phase of a call or the barrier, whose message has the rank's address.
  EXPECT_THAT(result.errors, testing::ContainsRegex("rank 2 (in [a-z]+|\\(127)"));
  EXPECT_EQ(result.output.find("left:"), std::string::npos) << result.output;
}

TEST(rank_death, a_request_to_end_reaches_all_ranks) {
  const ProgramResult result = interfere("kill -TERM $program");
  EXPECT_EQ(result.exit_code, 128 + 15) << result.errors;
  EXPECT_EQ(result.output.find("left:"), std::string::npos) << result.output;
}

TEST(rank_death, ranks_end_with_a_killed_program) {
  const ProgramResult result = interfere("kill -KILL $program");
  EXPECT_EQ(result.exit_code, 128 + 9) << result.errors;
  EXPECT_EQ(result.output.find("left:"), std::string::npos) << result.output;
}

}  // namespace
}  // namespace tokenyard::cli
