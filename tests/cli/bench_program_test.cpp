#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/text.hpp"
#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

struct BenchRun {
  ProgramResult program;
  Json report;
};

BenchRun run_small_bench(const std::vector<std::string>& arguments) {
  const std::string path = testing::TempDir() + "bench_program_test.json";
  std::vector<std::string> all{"bench",   "--hidden", "256",      "--experts", "16",     "--top-k", "4",
                               "--iters", "3",        "--warmup", "1",         "--json", path};
  all.insert(all.end(), arguments.begin(), arguments.end());
  if (std::find(all.begin(), all.end(), "--tokens") == all.end()) all.insert(all.end(), {"--tokens", "200"});
  BenchRun run{.program = run_tokenyard(all), .report = {}};
  if (run.program.exit_code == 0) run.report = Json::parse(read_text_file(path));
  return run;
}

std::vector<std::string> operations_of(const Json& report) {
  std::vector<std::string> operations;
  for (const Json& result : report["results"]) operations.push_back(result["operation"]);
  return operations;
}

void expect_no_wrong_rows(const BenchRun& run) {
  ASSERT_EQ(run.program.exit_code, 0) << run.program.output << run.program.errors;
  for (const Json& result : run.report["results"]) EXPECT_EQ(result["wrong_rows"], 0) << result;
}

TEST(bench_program, no_row_is_wrong_in_any_layout_on_threads_and_processes) {
  for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
    for (const char* kind : {"--threads", "--processes"}) {
      SCOPED_TRACE(std::string(layout) + " " + kind);
      expect_no_wrong_rows(run_small_bench({"--check", kind, "--layout", layout, "--alignment", "8"}));
    }
  }
}

TEST(bench_program, no_row_is_wrong_for_any_payload) {
  for (const char* dtype : {"bfloat16", "float16", "float32", "float64", "fp8", "byte"}) {
    SCOPED_TRACE(dtype);
    expect_no_wrong_rows(run_small_bench({"--check", "--threads", "--dtype", dtype, "--ranks", "3"}));
  }
}

TEST(bench_program, no_row_is_wrong_in_the_callers_memory_or_when_rows_are_dropped) {
  expect_no_wrong_rows(run_small_bench({"--check", "--output", "caller", "--layout", "expert-contiguous"}));
  for (const char* layout : {"compact", "expert-contiguous"}) {
    for (const char* output : {"slot", "caller"}) {
      SCOPED_TRACE(std::string(layout) + " " + output);
      expect_no_wrong_rows(run_small_bench(
          {"--check", "--threads", "--overflow", "drop", "--capacity", "150", "--layout", layout, "--output", output}));
    }
  }
  expect_no_wrong_rows(run_small_bench({"--check", "--threads", "--layout", "expert-padded", "--expert-capacity", "20"}));
  expect_no_wrong_rows(
      run_small_bench({"--check", "--threads", "--overflow", "grow", "--capacity", "10", "--routing", "zipf:2"}));
}

TEST(bench_program, the_report_has_the_columns_as_keys) {
  const BenchRun run = run_small_bench({"--check"});
  expect_no_wrong_rows(run);
  EXPECT_THAT(operations_of(run.report), ElementsAre("dispatch", "combine", "combine_in_place", "dispatch_cached", "memcpy"));
  std::vector<std::string> keys;
  for (const auto& [key, value] : run.report["results"][0].items()) keys.push_back(key);
  EXPECT_THAT(keys,
              ElementsAre("operation", "p50_us", "p99_us", "max_us", "wire_bytes", "local_bytes", "gb_per_s", "wrong_rows"));
  for (const std::string& key : keys) EXPECT_THAT(run.program.output, HasSubstr(key));
  EXPECT_EQ(run.report["ranks"], 2);
  EXPECT_EQ(run.report["tokens"], 200);
  EXPECT_GT(run.report["dispatch_over_memcpy"].get<double>(), 0);
  EXPECT_THAT(run.program.output, HasSubstr("dispatch_over_memcpy"));
  EXPECT_EQ(run.program.errors, "");

  const Json& dispatch = run.report["results"][0];
  EXPECT_LE(dispatch["p50_us"], dispatch["p99_us"]);
  EXPECT_LE(dispatch["p99_us"], dispatch["max_us"]);
  const std::int64_t num_bytes = dispatch["wire_bytes"].get<std::int64_t>() + dispatch["local_bytes"].get<std::int64_t>();
  EXPECT_EQ(num_bytes, run.report["dispatch_rows"].get<std::int64_t>() * 512);
  EXPECT_EQ(run.report["results"][4]["local_bytes"], num_bytes);
  EXPECT_NEAR(dispatch["gb_per_s"].get<double>(), static_cast<double>(num_bytes) / 2 / dispatch["p50_us"].get<double>() / 1000,
              1e-6);
}

TEST(bench_program, no_row_is_wrong_in_latency_mode) {
  for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
    for (const char* quantize : {"none", "float8", "float8-power-of-2", "float8-ue8m0"}) {
      SCOPED_TRACE(std::string(layout) + " " + quantize);
      const BenchRun run = run_small_bench({"--mode", "latency", "--tokens", "1,7,30", "--check", "--layout", layout,
                                            "--alignment", "8", "--quantize", quantize});
      expect_no_wrong_rows(run);
      EXPECT_THAT(operations_of(run.report),
                  ElementsAre("dispatch", "combine", "both", "dispatch", "combine", "both", "dispatch", "combine", "both"));
    }
  }
  expect_no_wrong_rows(run_small_bench({"--mode", "latency", "--tokens", "9", "--check", "--threads", "--ranks", "3",
                                        "--routing", "zipf:2", "--caches", "cold"}));
  const BenchRun opaque = run_small_bench({"--mode", "latency", "--tokens", "9", "--check", "--threads", "--dtype", "byte"});
  expect_no_wrong_rows(opaque);
  EXPECT_THAT(operations_of(opaque.report), ElementsAre("dispatch"));
}

// Two ranks, 16 experts, hidden 256 in bfloat16: rows of 512 bytes.
TEST(bench_program, the_yardstick_copies_the_rows_that_an_operation_moves) {
  const BenchRun run =
      run_small_bench({"--mode", "latency", "--tokens", "5,20", "--layout", "expert-contiguous", "--check", "--threads"});
  expect_no_wrong_rows(run);
  std::vector<std::string> keys;
  for (const auto& [key, value] : run.report["results"][0].items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("tokens", "operation", "p50_us", "p99_us", "flags_us", "memcpy_us", "yardstick_us", "ratio",
                                "gathered_bytes", "sent_bytes", "delivered_bytes", "wrong_rows"));
  for (const std::string& key : keys) EXPECT_THAT(run.program.output, HasSubstr(key));
  EXPECT_EQ(run.report["max_tokens"], 20);
  double worst = 0;
  for (std::size_t i = 0; i < 6; i += 3) {
    const Json& dispatch = run.report["results"][i];
    const Json& combine = run.report["results"][i + 1];
    const Json& both = run.report["results"][i + 2];
    const int num_tokens = 2 * dispatch["tokens"].get<int>();
    EXPECT_EQ(dispatch["delivered_bytes"], num_tokens * 4 * 512);  // top-4
    EXPECT_EQ(dispatch["gathered_bytes"], 0);
    EXPECT_EQ(combine["gathered_bytes"].get<int>() + combine["sent_bytes"].get<int>(), num_tokens * 4 * 512);
    EXPECT_EQ(combine["delivered_bytes"], combine["sent_bytes"]);
    EXPECT_EQ(combine["sent_bytes"], dispatch["sent_bytes"]);
    EXPECT_GE(dispatch["sent_bytes"], num_tokens * 512);
    EXPECT_LE(dispatch["sent_bytes"], num_tokens * 2 * 512);
    for (const char* bytes : {"gathered_bytes", "sent_bytes", "delivered_bytes"}) {
      EXPECT_EQ(both[bytes], dispatch[bytes].get<int>() + combine[bytes].get<int>());
    }
    EXPECT_GT(dispatch["flags_us"], 0);
    EXPECT_GE(dispatch["yardstick_us"], dispatch["flags_us"]);
    EXPECT_NEAR(dispatch["ratio"].get<double>() * dispatch["yardstick_us"].get<double>(), dispatch["p50_us"].get<double>(),
                1e-6);
    worst = std::max(worst, both["ratio"].get<double>());
  }
  EXPECT_EQ(run.report["worst_both_ratio"].get<double>(), worst);
}

TEST(bench_program, no_row_is_wrong_when_dispatch_quantises_in_throughput_mode) {
  expect_no_wrong_rows(run_small_bench({"--check", "--quantize", "float8-ue8m0", "--dtype", "float32"}));
}

TEST(bench_program, what_is_not_checked_is_not_claimed) {
  const BenchRun run = run_small_bench({"--threads"});
  ASSERT_EQ(run.program.exit_code, 0) << run.program.errors;
  for (const Json& result : run.report["results"]) EXPECT_TRUE(result["wrong_rows"].is_null());
}

TEST(bench_program, payloads_that_cannot_be_summed_are_only_dispatched) {
  const BenchRun run = run_small_bench({"--threads", "--dtype", "byte"});
  EXPECT_THAT(operations_of(run.report), ElementsAre("dispatch", "dispatch_cached", "memcpy"));
}

TEST(bench_program, the_mpi_baseline_moves_the_same_bytes) {
  const ProgramResult info = run_tokenyard({"info", "--json"});
  const Json features = Json::parse(info.output)["features"];
  if (!features.back()["works"].get<bool>()) GTEST_SKIP() << "this build has no MPI baseline";
  const BenchRun run = run_small_bench({"--check", "--against", "mpi", "--routing", "grouped:4/2"});
  expect_no_wrong_rows(run);
  const Json& dispatch = run.report["results"].front();
  const Json& baseline = run.report["results"].back();
  EXPECT_EQ(baseline["operation"], "mpi_alltoallv");
  EXPECT_EQ(baseline["wire_bytes"], dispatch["wire_bytes"]);
  EXPECT_EQ(baseline["local_bytes"], dispatch["local_bytes"]);
  EXPECT_GT(run.report["dispatch_over_mpi_alltoallv"].get<double>(), 0);
}

TEST(bench_program, a_missing_mpi_baseline_is_explained) {
  const std::string folder = testing::TempDir() + "without_baseline";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(TOKENYARD_PROGRAM, folder + "/tokenyard", std::filesystem::copy_options::overwrite_existing);
  const ProgramResult result = run_program({"env", "-u", "RANK", "-u", "WORLD_SIZE", folder + "/tokenyard", "bench", "--tokens",
                                            "8", "--hidden", "64", "--against", "mpi"},
                                           std::chrono::seconds(60));
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_THAT(result.errors, HasSubstr("install the packages libopenmpi-dev and openmpi-bin"));
}

}  // namespace
}  // namespace tokenyard::cli
