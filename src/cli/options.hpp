// What each command is told. The values here are the defaults that its help shows.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/launcher.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// How the ranks of a command come about.
struct RankOptions {
  std::optional<int> num_ranks;  // unset: the command's default, or what the environment says
  std::optional<RankKind> kind;  // unset: the command's default
  double timeout_seconds = 30;

  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(timeout_seconds * 1000));
  }
};

struct DemoOptions {
  static constexpr int kDefaultRanks = 4;

  RankOptions ranks;
  std::string mode = "throughput";
  std::string text_path;
  std::string record_path;  // empty: nothing is recorded
  int num_experts = 16;
  int top_k = 4;
  std::int64_t hidden = 256;
  std::int64_t intermediate = 0;  // 0: 2 * hidden
  std::int64_t max_tokens = 0;    // 0: 256, in latency mode 32
  std::string dtype = "float32";
  std::string layout = "expert-contiguous";
  bool shared_expert = false;
  std::uint64_t seed = 1;
};

struct BenchOptions {
  static constexpr int kDefaultRanks = 2;

  RankOptions ranks;
  std::string mode = "throughput";
  std::vector<std::int64_t> token_counts;  // per rank; empty: what the mode is for
  std::int64_t hidden = 7168;
  int num_experts = 256;
  int top_k = 8;
  std::string dtype = "bfloat16";
  std::string quantize = "none";
  std::string layout = "compact";
  std::string routing = "uniform";
  std::string output = "slot";
  std::string bind = "core";
  std::string overflow = "grow";
  std::int64_t recv_capacity = 0;
  std::int64_t expert_capacity = 0;  // 0: the load of the busiest expert
  int alignment = 1;
  std::uint64_t seed = 1;
  std::string caches;                 // "cold", "warm", or empty for what the mode is for
  std::optional<int> num_iterations;  // unset: what the mode needs
  std::optional<int> num_warmups;
  bool check = false;
  std::string json_path;  // empty: no file
  std::string against;    // "mpi", "nccl" (GPUs) or empty

  std::string device = "cpu";     // or "cuda"; what follows is for GPUs
  int num_sms = 0;                // 0: the library chooses
  std::string copies = "chosen";  // or "bulk", "plain"
  bool graph = false;
  bool table = false;    // all goals, instead of one load
  bool overlap = false;  // calls beside a matrix product, instead of calls alone
};

struct PlanOptions {
  std::string mode = "throughput";
  int num_ranks = 8;
  int num_experts = 256;
  int top_k = 8;
  std::int64_t max_tokens = 4096;
  std::int64_t hidden = 7168;
  std::string dtype = "bfloat16";
  std::string quantize = "none";
  bool combine_as_float8 = false;
  std::vector<std::string> lanes;  // TYPE:COUNT each; empty: what dtype and hidden say
  std::string combine;             // TYPE:COUNT, "none", or empty for the library's choice
  std::string layout = "compact";
  int alignment = 1;
  std::int64_t expert_capacity = 0;
  std::int64_t recv_capacity = 0;
  std::string overflow = "grow";
  int max_local_experts = 0;
  std::string placement_path;  // empty: contiguous
  bool json = false;
};

struct DoctorOptions {
  static constexpr int kDefaultRanks = 2;

  std::optional<int> num_ranks;  // as for RankOptions
  double timeout_seconds = 20;
  double seconds = 60;  // that the self-test may take
  bool self_test = true;
  bool json = false;
};

constexpr const char* kDefaultPage = "tokenyard-report.html";

struct ReportOptions {
  std::vector<std::string> trace_paths;
  std::string page_path;  // empty: kDefaultPage, or no page where JSON is printed
  bool json = false;
};

struct InfoOptions {
  bool measure = false;  // what links between GPUs carry
  bool json = false;
};

// The commands. Each returns the program's exit code, and throws UsageError for values that make no sense together and Error
// for whatever else goes wrong.
int run_demo(const DemoOptions& options);
int run_bench(const BenchOptions& options);
int run_plan(const PlanOptions& options);
int run_report(const ReportOptions& options);
int run_info(const InfoOptions& options);
int run_doctor(const DoctorOptions& options);

}  // namespace tokenyard::cli
