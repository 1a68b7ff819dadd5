#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/text.hpp"
#include "tests/cli/program.hpp"
#include "tests/cli/trace_text.hpp"

namespace tokenyard::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

std::string write(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}

TEST(report_program, names_the_late_rank_and_writes_the_page) {
  const std::string a = write("late0.json", TraceText{.rank = 0, .waited_us = 400}.text());
  const std::string b = write("late1.json", TraceText{.rank = 1, .arrival_us = 400}.text());
  const std::string page = testing::TempDir() + "late.html";
  const ProgramResult result = run_tokenyard({"report", a, b, "-o", page});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("Rank 1 is late: the other rank waited 4.0 ms for it"), HasSubstr("in 10 of 10"),
                                   HasSubstr(page)));
  EXPECT_THAT(read_text_file(page), AllOf(HasSubstr("<!doctype html>"), HasSubstr("Rank 1 is late")));
}

TEST(report_program, json_holds_both_matrices) {
  const std::string a = write("json0.json", TraceText{.rank = 0, .waited_us = 400}.text());
  const std::string b = write("json1.json", TraceText{.rank = 1, .arrival_us = 400}.text());
  const ProgramResult result = run_tokenyard({"report", a, b, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const Json group = Json::parse(result.output).at("groups").at(0);
  EXPECT_EQ(group.at("verdict").at("late_ranks"), Json::array({1}));
  EXPECT_EQ(group.at("traffic").at("dispatch").at("rows"), Json::parse("[[30,50],[30,50]]"));
  EXPECT_EQ(group.at("traffic").at("all").at("bytes"), Json::parse("[[3000,5000],[3000,5000]]"));
  EXPECT_EQ(group.at("waiting").at("count"), Json::parse("[[0,10],[0,0]]"));
  EXPECT_EQ(group.at("waiting").at("total_us").at(0).at(1), 4000);
  EXPECT_EQ(group.at("waiting").at("median_us").at(0).at(1), 400);
  EXPECT_EQ(group.at("waiting").at("due_us").at(0).at(1), 4000);
  for (const Json& phase : group.at("phases")) {
    if (phase.at("name") != "push") continue;
    EXPECT_EQ(phase.at("count"), 20);
  }
}

TEST(report_program, says_what_is_missing) {
  const std::string a = write("cut.json", TraceText{.rank = 0, .waited_us = 400}.text().substr(0, 3000));
  const ProgramResult result = run_tokenyard({"report", a, "-o", testing::TempDir() + "cut.html"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("cut.json ends in the middle"), HasSubstr("No trace of rank 1 was given")));
}

TEST(report_program, files_that_are_not_there_or_no_traces_are_refused) {
  const ProgramResult missing = run_tokenyard({"report", "/no/such/trace.json"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.errors, HasSubstr("/no/such/trace.json"));
  const ProgramResult other = run_tokenyard({"report", write("no_trace.json", "{\"results\":[]}")});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.errors, AllOf(HasSubstr("no_trace.json is no trace"), HasSubstr("TOKENYARD_TRACE=FILE")));
  EXPECT_EQ(run_tokenyard({"report"}).exit_code, 2);
  const std::string trace = write("good.json", TraceText{}.text());
  const ProgramResult unwritable = run_tokenyard({"report", trace, "-o", "/no/such/page.html"});
  EXPECT_EQ(unwritable.exit_code, 1);
  EXPECT_THAT(unwritable.errors, HasSubstr("/no/such/page.html"));
}

TEST(report_program, reads_what_the_bench_command_traces) {
  const std::string folder = testing::TempDir();
  for (const char* kind : {"--threads", "--processes"}) {
    const bool threads = std::string(kind) == "--threads";
    const ProgramResult bench = run_tokenyard({"bench", kind, "--ranks", "2", "--tokens", "16", "--hidden", "64", "--experts",
                                               "4", "--top-k", "2", "--iters", "3", "--bind", "none"},
                                              {"TOKENYARD_TRACE=" + folder + "bench.json"});
    EXPECT_EQ(bench.exit_code, 0) << bench.errors;
    std::vector<std::string> arguments{"report", "--json"};
    if (threads) {
      arguments.push_back(folder + "bench.json");
    } else {
      for (const char* rank : {"0", "1"}) arguments.push_back(folder + "bench.rank" + rank + ".json");
    }
    const ProgramResult report = run_tokenyard(arguments);
    ASSERT_EQ(report.exit_code, 0) << report.errors;
    const Json group = Json::parse(report.output).at("groups").at(0);
    EXPECT_EQ(group.at("num_ranks"), 2);
    EXPECT_GT(group.at("num_turns").at("dispatch"), 0);
    EXPECT_GT(group.at("traffic").at("combine").at("rows").at(0).at(1), 0);
  }
}

}  // namespace
}  // namespace tokenyard::cli
