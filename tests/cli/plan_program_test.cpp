#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/program.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

Json run_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const ProgramResult result = run_tokenyard(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  return Json::parse(result.output);
}

TEST(plan_program, regions_add_up_to_the_windows) {
  const Json plan = run_json({"plan", "--ranks", "16", "--dtype", "fp8", "--layout", "expert-contiguous"});
  std::int64_t all_bytes = 0;
  std::int64_t metadata_bytes = 0;
  for (const Json& region : plan["regions"]) {
    const std::int64_t num_bytes = region["bytes"].get<std::int64_t>() * region["copies"].get<std::int64_t>();
    all_bytes += num_bytes;
    if (region["metadata"]) metadata_bytes += num_bytes;
  }
  EXPECT_EQ(plan["metadata_bytes"], metadata_bytes);
  EXPECT_LE(all_bytes, plan["window_bytes"]);
  EXPECT_LT(plan["window_bytes"].get<std::int64_t>() - all_bytes, 1'000'000);  // gaps between regions
}

TEST(plan_program, two_thousand_ranks_are_planned_at_once) {
  const ProgramResult result = run_tokenyard({"plan", "--ranks", "2048", "--max-tokens", "128"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("each of 2048 ranks, in bytes"));
  EXPECT_THAT(result.output, HasSubstr("metadata, both slots"));
  EXPECT_GT(run_json({"plan", "--ranks", "2048", "--max-tokens", "128"})["metadata_bytes"], 0);
}

TEST(plan_program, lanes_and_placements_are_taken_as_given) {
  const std::string path = testing::TempDir() + "placement.txt";
  std::ofstream(path) << "0 1 2 3\n3 0\n";
  const Json plan = run_json({"plan", "--ranks", "2", "--experts", "4", "--top-k", "2", "--lane", "float8_e4m3:256", "--lane",
                              "float32:2", "--combine", "bfloat16:256", "--placement", path});
  EXPECT_EQ(plan["dispatch_row_bytes"], 264);
  EXPECT_EQ(plan["combine_row_bytes"], 512);
  EXPECT_EQ(plan["max_local_experts"], 4);
}

TEST(info_program, says_what_is_here_and_what_is_not) {
  const Json info = run_json({"info"});
  EXPECT_EQ(info["version"], version());
  EXPECT_EQ(info["wire_version"], kWireVersion);
  EXPECT_GE(info["allowed_cores"], 1);
  EXPECT_LE(info["allowed_cores"], info["cores"]);
  EXPECT_GT(info["memory_bytes"], 0);
  EXPECT_FALSE(info["gpu_part"].get<bool>());
  const ProgramResult result = run_tokenyard({"info"});
  EXPECT_THAT(result.output, HasSubstr("this build has no GPU part"));
  EXPECT_THAT(result.output, HasSubstr("cores"));
}

}  // namespace
}  // namespace tokenyard::cli
