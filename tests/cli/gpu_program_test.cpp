// The commands for GPUs, with GPUs and without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/text.hpp"
#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

Json info() { return Json::parse(run_tokenyard({"info", "--json"}).output); }

bool has_gpus() {
  const Json facts = info();
  return facts["gpu_part"].get<bool>() && facts["gpu_device_nodes"].get<int>() > 0;
}

Json run_small_bench(const std::vector<std::string>& arguments) {
  const std::string path = testing::TempDir() + "gpu_program_test.json";
  std::vector<std::string> all{"bench",    "--device", "cuda",      "--ranks", "2",       "--tokens", "200",
                               "--hidden", "256",      "--experts", "16",      "--top-k", "4",        "--iters",
                               "3",        "--warmup", "1",         "--check", "--json",  path};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const ProgramResult result = run_tokenyard(all);
  EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
  return result.exit_code == 0 ? Json::parse(read_text_file(path)) : Json();
}

TEST(gpu_program, what_a_build_has_for_gpus_is_said_without_any) {
  const Json facts = info();
  const bool is_built = facts["gpu_part"].get<bool>();
  EXPECT_EQ(facts["minimum_driver"].is_string(), is_built);
  EXPECT_EQ(facts["gpu_architectures"].is_string(), is_built);
  if (is_built) {
    EXPECT_THAT(facts["minimum_driver"].get<std::string>(), HasSubstr("of CUDA 12.4 (550)"));
  }
  const ProgramResult result = run_tokenyard({"info"});
  EXPECT_THAT(result.output, HasSubstr(is_built ? "needs a driver" : "this build has no GPU part"));
}

TEST(gpu_program, without_gpus_the_reason_is_named) {
  if (has_gpus()) GTEST_SKIP() << "there are GPUs";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"bench", "--device", "cuda"},
                                             {"bench", "--device", "cuda", "--table", "--processes"},
                                             {"bench", "--device", "cuda", "--overlap"},
                                             {"info", "--measure"}}) {
    const ProgramResult result = run_tokenyard(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_THAT(result.errors,
                AnyOf(HasSubstr("was built without CUDA"), HasSubstr("driver is missing"), HasSubstr("no GPU is visible")));
  }
}

TEST(gpu_program, no_row_is_wrong_in_any_layout_on_threads_and_processes) {
  if (!has_gpus()) GTEST_SKIP() << "needs a GPU, and a build for it";
  for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
    for (const char* kind : {"--threads", "--processes"}) {
      for (const char* output : {"slot", "caller"}) {
        SCOPED_TRACE(std::string(layout) + " " + kind + " " + output);
        const Json report = run_small_bench({kind, "--layout", layout, "--alignment", "8", "--output", output, "--graph"});
        ASSERT_FALSE(report.is_null());
        for (const Json& result : report["results"]) {
          EXPECT_GT(result["checked_rows"], 0) << result;
          EXPECT_EQ(result["wrong_rows"], 0) << result;
        }
        EXPECT_EQ(report["results"].back()["operation"], "graph");
      }
    }
  }
}

TEST(gpu_program, no_row_is_wrong_for_other_payloads_and_copies) {
  if (!has_gpus()) GTEST_SKIP() << "needs a GPU, and a build for it";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{{"--dtype", "fp8"},
                                                                                         {"--quantize", "float8-ue8m0"},
                                                                                         {"--dtype", "byte"},
                                                                                         {"--copies", "plain", "--sms", "4"},
                                                                                         {"--copies", "engine"}}) {
    const Json report = run_small_bench(arguments);
    ASSERT_FALSE(report.is_null());
    for (const Json& result : report["results"]) EXPECT_EQ(result["wrong_rows"], 0) << result;
  }
}

TEST(gpu_program, links_are_measured) {
  if (!has_gpus()) GTEST_SKIP() << "needs a GPU, and a build for it";
  const ProgramResult result = run_tokenyard({"info", "--measure", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const Json facts = Json::parse(result.output);
  const std::size_t num_gpus = facts["gpus"].size();
  ASSERT_GT(num_gpus, 0U);
  EXPECT_EQ(facts["gpu_pairs"].size(), num_gpus * (num_gpus - 1));
  EXPECT_EQ(facts["gpu_handles"].size(), 3 * num_gpus);
  for (const Json& offer : facts["gpu_handles"]) {
    EXPECT_EQ(offer["works"].get<bool>(), offer["remark"].get<std::string>().empty()) << offer;
  }
  for (const Json& gpu : facts["gpus"]) EXPECT_GT(gpu["local_copy_gb_per_s"].get<double>(), 0);
  for (const Json& pair : facts["gpu_pairs"]) EXPECT_GT(pair["both_ways_gb_per_s"].get<double>(), 0);
}

}  // namespace
}  // namespace tokenyard::cli
