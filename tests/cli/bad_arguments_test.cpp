#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

void expect_refused(const std::vector<std::string>& arguments, int exit_code, const char* text,
                    const std::vector<std::string>& environment = {}) {
  SCOPED_TRACE(testing::PrintToString(arguments));
  const ProgramResult result = run_tokenyard(arguments, environment);
  EXPECT_EQ(result.exit_code, exit_code) << result.output;
  EXPECT_THAT(result.errors, HasSubstr(text));
}

std::string write_file(const std::string& name, const std::string& bytes) {
  std::string path = testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(bad_arguments, what_is_not_understood_ends_with_2) {
  expect_refused({}, 2, "subcommand");
  expect_refused({"dispatch"}, 2, "subcommand");
  expect_refused({"demo"}, 2, "--text is required");
  expect_refused({"demo", "--text", sample_text(), "--colour"}, 2, "--colour");
  expect_refused({"demo", "--text", sample_text(), "--dtype", "float64"}, 2, "float64 not in {float32,bfloat16,fp8}");
  expect_refused({"demo", "--text", sample_text(), "--ranks", "0"}, 2, "--ranks");
  expect_refused({"demo", "--text", sample_text(), "--ranks", "many"}, 2, "--ranks");
  expect_refused({"demo", "--text", sample_text(), "--top-k", "33"}, 2, "--top-k");
  expect_refused({"demo", "--text", sample_text(), "--top-k", "9", "--experts", "8"}, 2,
                 "--top-k 9 is more than the 8 experts");
  expect_refused({"bench", "--threads", "--processes"}, 2, "excludes");
  expect_refused({"bench", "--layout", "padded"}, 2, "--layout");
  expect_refused({"bench", "--routing", "zipf"}, 2, "expected uniform, zipf:S");
  expect_refused({"bench", "--routing", "grouped:3/1"}, 2, "256 experts do not make 3 equal groups");
  expect_refused({"bench", "--iters", "0"}, 2, "--iters");
  expect_refused({"bench", "--mode", "decode"}, 2, "--mode");
  expect_refused({"bench", "--tokens", "8,16"}, 2, "only latency mode measures several");
  expect_refused({"bench", "--mode", "latency", "--tokens", "8,none"}, 2, "--tokens");
  expect_refused({"bench", "--mode", "latency", "--output", "caller"}, 2, "throughput mode alone");
  expect_refused({"bench", "--mode", "latency", "--against", "mpi"}, 2, "throughput mode alone");
  expect_refused({"bench", "--mode", "latency", "--overflow", "drop"}, 2, "every token has a place");
  expect_refused({"bench", "--quantize", "float8", "--dtype", "fp8"}, 2, "starts from float32, bfloat16 or float16");
  expect_refused({"bench", "--quantize", "int8"}, 2, "--quantize");
  expect_refused({"bench", "--caches", "tepid"}, 2, "--caches");
  expect_refused({"bench", "--against", "gloo"}, 2, "--against");
  expect_refused({"bench", "--against", "nccl"}, 2, "add --device cuda");
  expect_refused({"bench", "--device", "tpu"}, 2, "--device");
  for (const std::vector<std::string>& option :
       {std::vector<std::string>{"--graph"}, {"--table"}, {"--overlap"}, {"--sms", "16"}, {"--copies", "plain"}}) {
    std::vector<std::string> arguments{"bench"};
    arguments.insert(arguments.end(), option.begin(), option.end());
    expect_refused(arguments, 2, "are for ranks on GPUs: add --device cuda");
  }
  expect_refused({"bench", "--device", "cuda", "--mode", "latency"}, 2, "throughput mode");
  expect_refused({"bench", "--device", "cuda", "--against", "mpi"}, 2, "use --against nccl");
  expect_refused({"bench", "--device", "cuda", "--overflow", "drop"}, 2, "for --device cpu");
  expect_refused({"bench", "--device", "cuda", "--tokens", "8,16"}, 2, "one is measured at a time");
  expect_refused({"bench", "--device", "cuda", "--copies", "fast"}, 2, "--copies");
  expect_refused({"bench", "--device", "cuda", "--copies", "engine", "--graph"}, 2, "leave --table and --graph out");
  expect_refused({"bench", "--device", "cuda", "--overlap", "--graph"}, 2, "beside a product: leave --table, --graph");
  expect_refused({"bench", "--device", "cuda", "--overlap", "--copy-out"}, 2, "beside a product: leave --table, --graph");
  expect_refused({"bench", "--device", "cuda", "--sms", "-1"}, 2, "--sms");
  expect_refused({"bench", "--device", "cuda", "--table", "--sms", "8"}, 2, "--table measures the loads");
  expect_refused({"bench", "--device", "cuda", "--table", "--tokens", "8"}, 2, "--table measures the loads");
  expect_refused({"plan", "--lane", "half:8"}, 2, "unknown element type \"half\"");
  expect_refused({"plan", "--ranks", "2049"}, 2, "--ranks");
  expect_refused({"info", "--verbose"}, 2, "--verbose");
  expect_refused({"doctor", "--ranks", "0"}, 2, "--ranks");
  expect_refused({"doctor", "--seconds", "-1"}, 2, "--seconds");
  expect_refused({"doctor", "--ranks", "3"}, 2, "contradicts the variables of torchrun",
                 {"RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=0", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"});
}

TEST(bad_arguments, what_cannot_be_ends_with_1_before_anything_runs) {
  expect_refused({"demo", "--text", "/no/such/text"}, 1, "\"/no/such/text\": No such file");
  expect_refused({"demo", "--text", write_file("blank.txt", " \n")}, 1, "has no words");
  expect_refused({"demo", "--text", sample_text(), "--hidden", "3"}, 1, "not a multiple of 16");
  expect_refused({"bench", "--tokens", "8", "--hidden", "4"}, 1, "not a multiple of 16");
  expect_refused({"bench", "--routing", "/no/such/ids.npy"}, 1, "/no/such/ids.npy");
  expect_refused({"bench", "--routing", write_file("broken.npy", "no array")}, 1, "not a .npy file");
  expect_refused({"bench", "--tokens", "8", "--capacity", "17"}, 1, "recv_capacity");
  expect_refused({"plan", "--layout", "expert-padded"}, 1, "expert_capacity");
  expect_refused({"plan", "--experts", "5000"}, 1, "num_experts is 5000");
  expect_refused({"plan", "--placement", write_file("placement.txt", "0 1\n2 x\n")}, 1, "line 2");
}

TEST(bad_arguments, results_that_cannot_be_written_are_an_error) {
  expect_refused({"demo", "--text", sample_text(), "--record", "/no/such/folder/ids.npy"}, 1, "/no/such/folder/ids.npy");
  expect_refused({"bench", "--tokens", "8", "--hidden", "64", "--iters", "1", "--json", "/no/such/folder/bench.json"}, 1,
                 "/no/such/folder/bench.json");
}

TEST(bad_arguments, the_environment_is_not_contradicted) {
  const std::vector<std::string> environment{"RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=0", "MASTER_ADDR=127.0.0.1",
                                             "MASTER_PORT=1"};
  expect_refused({"demo", "--text", sample_text(), "--ranks", "3"}, 2,
                 "--ranks 3 contradicts the variables of torchrun, by which there are 2", environment);
  expect_refused({"demo", "--text", sample_text(), "--threads"}, 2, "--threads contradicts", environment);
  expect_refused({"demo", "--text", sample_text()}, 1, "WORLD_SIZE is not set", {"RANK=0"});
}

}  // namespace
}  // namespace tokenyard::cli
