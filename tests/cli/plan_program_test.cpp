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
  EXPECT_THAT(result.output, HasSubstr("in throughput mode on each of 2048 ranks, in bytes"));
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

Json plan_latency(const std::vector<std::string>& arguments) {
  std::vector<std::string> all{"plan", "--mode", "latency"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_json(all);
}

TEST(plan_program, memory_of_latency_mode_grows_with_ranks_and_tokens_and_rows_but_not_with_experts) {
  const auto window_of = [](const std::vector<std::string>& arguments) {
    return plan_latency(arguments)["window_bytes"].get<std::int64_t>();
  };
  const std::int64_t usual = window_of({"--ranks", "8", "--experts", "256", "--max-tokens", "128", "--hidden", "7168"});
  EXPECT_EQ(window_of({"--ranks", "8", "--experts", "512", "--max-tokens", "128", "--hidden", "7168"}), usual);
  for (const std::vector<std::string>& doubled :
       {std::vector<std::string>{"--ranks", "16", "--experts", "256", "--max-tokens", "128", "--hidden", "7168"},
        {"--ranks", "8", "--experts", "256", "--max-tokens", "256", "--hidden", "7168"},
        {"--ranks", "8", "--experts", "256", "--max-tokens", "128", "--hidden", "14336"}}) {
    EXPECT_NEAR(static_cast<double>(window_of(doubled)), 2.0 * static_cast<double>(usual), 0.01 * static_cast<double>(usual))
        << testing::PrintToString(doubled);
  }
}

// 16 ranks of 16 experts each; FP8 values with a byte per scale: 7,224 bytes per row; 14,336 bytes return.
TEST(plan_program, latency_mode_is_shown_beside_a_place_per_expert) {
  const std::vector<std::string> arguments{"--ranks",      "16",  "--experts",   "256", "--top-k",    "8",
                                           "--max-tokens", "128", "--alignment", "4",   "--quantize", "float8-ue8m0"};
  const Json plan = plan_latency(arguments);
  EXPECT_EQ(plan["mode"], "latency");
  EXPECT_EQ(plan["window_payload_bytes"], 2 * 16 * 128 * (7'224 + 14'336));
  EXPECT_EQ(plan["payload_bytes_by_expert"], std::int64_t{2} * 256 * 128 * (7'224 + 14'336));
  EXPECT_EQ(plan["padded_capacity"], 16 * 128);
  EXPECT_EQ(plan["padded_result_bytes"], std::int64_t{16} * 16 * 128 * 7'224);
  EXPECT_EQ(plan["contiguous_result_bytes"], (128 * 8 + 16 * 3) * 7'224);
  EXPECT_EQ(plan["worst_contiguous_result_bytes"], (16 * 128 * 8 + 16 * 3) * 7'224);

  std::vector<std::string> as_table{"plan", "--mode", "latency"};
  as_table.insert(as_table.end(), arguments.begin(), arguments.end());
  const ProgramResult table = run_tokenyard(as_table);
  EXPECT_THAT(table.output, HasSubstr("in latency mode on each of 16 ranks"));
  EXPECT_THAT(table.output, HasSubstr("a place per (expert, rank, token): 2 x (L R M dispatch rows + E M returned rows)"));
  EXPECT_THAT(table.output, HasSubstr("1,412,956,160"));
  EXPECT_EQ(plan_latency({"--ranks", "2", "--layout", "expert-padded", "--expert-capacity", "5"})["padded_capacity"], 5);
}

TEST(plan_program, lanes_are_said_once) {
  const ProgramResult both = run_tokenyard({"plan", "--quantize", "float8", "--lane", "bfloat16:64"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.errors, HasSubstr("--lane cannot be given too"));
}

TEST(info_program, says_what_is_here_and_what_is_not) {
  const Json info = run_json({"info"});
  EXPECT_EQ(info["version"], version());
  EXPECT_EQ(info["wire_version"], kWireVersion);
  EXPECT_GE(info["allowed_cores"], 1);
  EXPECT_LE(info["allowed_cores"], info["cores"]);
  EXPECT_GT(info["memory_bytes"], 0);
  const bool has_gpu_part = info["gpu_part"].get<bool>();
  const ProgramResult result = run_tokenyard({"info"});
  EXPECT_THAT(result.output, HasSubstr(has_gpu_part ? "needs a driver of CUDA" : "this build has no GPU part"));
  EXPECT_THAT(result.output, HasSubstr("cores"));
}

}  // namespace
}  // namespace tokenyard::cli
