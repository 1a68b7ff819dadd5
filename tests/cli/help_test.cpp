#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

std::string help_of(const std::string& command) {
  const ProgramResult result = run_tokenyard({command, "--help"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("Example: tokenyard " + command));
  return result.output;
}

TEST(help, every_command_is_listed) {
  const std::string help = run_tokenyard({"--help"}).output;
  for (const char* command : {"demo", "bench", "plan", "report", "info", "doctor"}) EXPECT_THAT(help, HasSubstr(command));
}

TEST(help, every_command_explains_its_units) {
  for (const char* unit : {"in seconds", "values per token", "multiple of 16 bytes", "tokens per rank", "experts per token"}) {
    EXPECT_THAT(help_of("demo"), HasSubstr(unit));
    EXPECT_THAT(help_of("bench"), HasSubstr(unit));
  }
  EXPECT_THAT(help_of("bench"), HasSubstr("microseconds"));
  EXPECT_THAT(help_of("bench"), HasSubstr("10^9 bytes per second"));
  EXPECT_THAT(help_of("bench"), HasSubstr("two bare flag round trips"));
  EXPECT_THAT(help_of("plan"), HasSubstr("in bytes"));
  EXPECT_THAT(help_of("plan"), HasSubstr("values per row"));
  EXPECT_THAT(help_of("info"), HasSubstr("powers of 1,024"));
  EXPECT_THAT(help_of("report"), HasSubstr("microseconds (us)"));
  for (const char* unit : {"in seconds", "powers of 1,024", "microseconds"}) EXPECT_THAT(help_of("doctor"), HasSubstr(unit));
}

TEST(help, the_doctor_explains_its_verdicts) {
  for (const char* word : {"ok", "WARN", "FAIL", "=>", "Exit code 1"}) EXPECT_THAT(help_of("doctor"), HasSubstr(word));
}

TEST(help, every_routing_is_explained) {
  for (const char* source : {"uniform", "zipf:S", "grouped:G/K", "FILE.npy"}) EXPECT_THAT(help_of("bench"), HasSubstr(source));
}

TEST(help, what_is_measured_on_gpus_is_explained) {
  for (const char* word :
       {"--device", "--sms", "--copies", "--graph", "--copy-out", "--table", "--overlap", "TOKENYARD_CUBLAS", "wall clock"}) {
    EXPECT_THAT(help_of("bench"), HasSubstr(word));
  }
  EXPECT_THAT(help_of("info"), HasSubstr("--measure"));
}

TEST(help, the_version_is_the_librarys) { EXPECT_EQ(run_tokenyard({"--version"}).output, std::string(version()) + "\n"); }

}  // namespace
}  // namespace tokenyard::cli
