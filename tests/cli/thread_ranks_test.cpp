// Commands with ranks as threads of this process, where sanitizers see all of them.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/options.hpp"

namespace tokenyard::cli {
namespace {

std::string write_text() {
  std::string path = testing::TempDir() + "thread_ranks_test.txt";
  std::ofstream(path)
      << "A goods train does not go to one place. It leaves the harbour with forty wagons: timber, oranges and steel.";
  return path;
}

TEST(thread_ranks, the_demonstration_agrees_with_its_reference) {
  DemoOptions options;
  options.text_path = write_text();
  options.ranks.num_ranks = 3;
  options.ranks.kind = RankKind::kThreads;
  options.num_experts = 7;
  options.top_k = 3;
  options.hidden = 48;
  options.max_tokens = 5;
  options.shared_expert = true;
  for (const char* dtype : {"float32", "bfloat16", "fp8"}) {
    for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
      SCOPED_TRACE(std::string(dtype) + " " + layout);
      options.dtype = dtype;
      options.layout = layout;
      for (const char* mode : {"throughput", "latency"}) {
        options.mode = mode;
        EXPECT_EQ(run_demo(options), 0);
      }
    }
  }
}

TEST(thread_ranks, the_benchmark_finds_no_wrong_row) {
  BenchOptions options;
  options.ranks.num_ranks = 3;
  options.ranks.kind = RankKind::kThreads;
  options.token_counts = {40};
  options.hidden = 64;
  options.num_experts = 10;
  options.top_k = 3;
  options.routing = "zipf:1";
  options.num_iterations = 2;
  options.num_warmups = 0;
  options.check = true;
  for (const auto& [layout, output] : std::vector<std::pair<std::string, std::string>>{
           {"compact", "slot"}, {"expert-contiguous", "caller"}, {"expert-padded", "slot"}}) {
    SCOPED_TRACE(layout);
    options.layout = layout;
    options.output = output;
    EXPECT_EQ(run_bench(options), 0);
  }
}

TEST(thread_ranks, the_benchmark_of_latency_mode_finds_no_wrong_row) {
  BenchOptions options;
  options.mode = "latency";
  options.ranks.num_ranks = 3;
  options.ranks.kind = RankKind::kThreads;
  options.token_counts = {1, 12};
  options.hidden = 160;
  options.num_experts = 10;
  options.top_k = 3;
  options.num_iterations = 2;
  options.num_warmups = 0;
  options.check = true;
  for (const auto& [layout, quantize] : std::vector<std::pair<std::string, std::string>>{
           {"compact", "none"}, {"expert-contiguous", "float8-ue8m0"}, {"expert-padded", "float8"}}) {
    SCOPED_TRACE(layout);
    options.layout = layout;
    options.quantize = quantize;
    EXPECT_EQ(run_bench(options), 0);
  }
}

}  // namespace
}  // namespace tokenyard::cli
