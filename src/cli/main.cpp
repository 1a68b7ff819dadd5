// The command line: what can be said, and what each word means.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "cli/options.hpp"
#include "cli/usage_error.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kUsageExitCode = 2;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;  // per rank; far above any batch, far below overflow
constexpr std::int64_t kMostHidden = std::int64_t{1} << 24;

void add_rank_options(CLI::App& command, RankOptions& options, int default_num_ranks) {
  command
      .add_option("--ranks", options.num_ranks,
                  fmt::format("number of ranks [default: {}, or the launcher's]", default_num_ranks))
      ->type_name("COUNT")
      ->check(CLI::Range(1, kMaxRanks));
  auto* processes = command.add_flag_callback(
      "--processes", [&options] { options.kind = RankKind::kProcesses; },
      "run every rank as a process of its own [default, on GPUs: threads]");
  command
      .add_flag_callback(
          "--threads", [&options] { options.kind = RankKind::kThreads; }, "run the ranks as threads of one process")
      ->excludes(processes);
  command.add_option("--timeout", options.timeout_seconds, "deadline of every wait, in seconds")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
}

void add_expert_options(CLI::App& command, int& num_experts, int& top_k) {
  command.add_option("--experts", num_experts, "number of experts on all ranks together")
      ->type_name("COUNT")
      ->check(CLI::Range(1, kMaxExperts))
      ->capture_default_str();
  command.add_option("--top-k", top_k, "experts per token")
      ->type_name("COUNT")
      ->check(CLI::Range(1, kMaxTopK))
      ->capture_default_str();
}

void add_layout_option(CLI::App& command, std::string& layout) {
  command.add_option("--layout", layout, "how received rows stand: one per token, or one per (token, expert), grouped")
      ->check(CLI::IsMember({"compact", "expert-contiguous", "expert-padded"}))
      ->capture_default_str();
}

void add_demo(CLI::App& program, DemoOptions& options) {
  CLI::App& command = *program.add_subcommand("demo", "run a Mixture-of-Experts layer over real text and check it");
  command.footer(
      "Splits a text into tokens, spreads them unevenly over the ranks, and runs one Mixture-of-Experts layer: gate,\n"
      "dispatch, SwiGLU experts, combine. Compares every element with the same layer computed in one process by plain\n"
      "loops: float32 must agree exactly, bfloat16 and fp8 within a derived bound. Exit code 0: OK, 1: FAILED.\n"
      "In latency mode the shared expert runs between the halves of dispatch, and dispatch makes the FP8 rows itself.\n"
      "Started by torchrun, OpenMPI's mpirun or Slurm's srun, a process is one rank and starts none.\n\n"
      "Example: tokenyard demo --text README.md --ranks 4 --experts 16 --top-k 4 --hidden 256 --dtype fp8 --shared-expert");
  command.add_option("--text", options.text_path, "the text to run over; every word and punctuation mark is a token")
      ->type_name("FILE")
      ->required();
  add_rank_options(command, options.ranks, DemoOptions::kDefaultRanks);
  add_expert_options(command, options.num_experts, options.top_k);
  command.add_option("--hidden", options.hidden, "values per token; a row must have a multiple of 16 bytes")
      ->type_name("VALUES")
      ->check(CLI::Range(std::int64_t{1}, kMostHidden))
      ->capture_default_str();
  command.add_option("--intermediate", options.intermediate, "width of an expert, in values [default: 2 x hidden]")
      ->type_name("VALUES")
      ->check(CLI::Range(std::int64_t{1}, kMostHidden));
  command.add_option("--mode", options.mode, "throughput, or latency with calls in halves, as in decode")
      ->check(CLI::IsMember({"throughput", "latency"}))
      ->capture_default_str();
  command
      .add_option("--max-tokens", options.max_tokens,
                  "tokens per rank and call; longer texts take several calls [default: 256; latency: 32]")
      ->type_name("TOKENS")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens));
  command.add_option("--dtype", options.dtype, "payload; fp8 is e4m3 with one float32 scale per 128 values")
      ->check(CLI::IsMember({"float32", "bfloat16", "fp8"}))
      ->capture_default_str();
  add_layout_option(command, options.layout);
  command.add_flag("--shared-expert", options.shared_expert, "add an expert that every token visits on its own rank meanwhile");
  command.add_option("--seed", options.seed, "of embeddings, gate and experts")->type_name("NUMBER")->capture_default_str();
  command.add_option("--record", options.record_path, "save the chosen expert ids: int64 [tokens, top_k], for bench --routing")
      ->type_name("FILE.npy");
}

void add_gpu_options(CLI::App& command, BenchOptions& options) {
  command.add_option("--device", options.device, "where ranks live: host memory, or GPUs, which they take in turn")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--sms", options.num_sms, "GPUs: SMs that a call may occupy; 0: the library chooses, 16 with --overlap")
      ->type_name("COUNT")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      .add_option("--copies", options.copies,
                  "GPUs: rows move by bulk copies (Hopper and later), plain loads and stores, or copy engines")
      ->check(CLI::IsMember({"chosen", "bulk", "plain", "engine"}))
      ->capture_default_str();
  command.add_flag_callback("--copy-engine", [&options] { options.copies = "engine"; }, "the same as --copies engine");
  command.add_flag("--graph", options.graph, "GPUs: time replays of a dispatch and a combine captured in a CUDA graph, too");
  command.add_flag_callback(
      "--copy-out", [&options] { options.output = "caller"; }, "results go to ordinary tensors: the same as --output caller");
  command.add_flag("--table", options.table, "GPUs: measure all loads and steps that have goals, and print both side by side");
  command.add_flag("--overlap", options.overlap,
                   "GPUs: what a matrix product loses while rows cross, by copy engines and by SMs; needs cuBLAS");
}

void add_bench(CLI::App& program, BenchOptions& options) {
  CLI::App& command = *program.add_subcommand("bench", "measure dispatch and combine against a memcpy of the same bytes");
  command.footer(
      "Measures dispatch, cached dispatch and combine, and a memcpy of the same bytes by all ranks at once as the ceiling.\n"
      "Times are microseconds (us) of the slowest rank; GB/s are 10^9 bytes per second. Exit code 1: wrong rows.\n\n"
      "Latency mode (--mode latency) measures dispatch, combine, and both in a row, each beside two bare flag round trips\n"
      "between the ranks and memcpys of the same bytes of rows.\n\n"
      "On GPUs (--device cuda) there is a rank per GPU, two at least, in threads of one process or with --processes in "
      "processes of\n"
      "their own. Times are of the GPUs' streams, but by the wall clock where the host waits for sizes; the ceiling is what "
      "copy\n"
      "engines carry between the GPUs in the same run. --table measures everything that has a goal. --overlap measures a "
      "cached\n"
      "dispatch and a combine beside a product of bfloat16 matrices of 1 ms or more: what either takes alone, and both at "
      "once. "
      "It takes\n"
      "cuBLAS where the loader finds it, or where TOKENYARD_CUBLAS names its file or folder.\n\n"
      "Routing (--routing): uniform: all experts equally likely; zipf:S: the i-th most popular expert with weight 1/i^S;\n"
      "grouped:G/K: experts in G groups, each token stays within K of them; FILE.npy: integers [tokens, top_k], as saved by\n"
      "demo --record.\n"
      "Started by torchrun, OpenMPI's mpirun or Slurm's srun, a process is one rank and starts none.\n\n"
      "Example: tokenyard bench --ranks 2 --tokens 4096 --hidden 7168 --experts 256 --top-k 8 --check --against mpi --json "
      "out.json\n"
      "Example: tokenyard bench --mode latency --tokens 1,8,64 --quantize float8-ue8m0 --layout expert-padded --check\n"
      "Example: tokenyard bench --device cuda --processes --ranks 2 --sms 16 --graph --against nccl --check");
  add_rank_options(command, options.ranks, BenchOptions::kDefaultRanks);
  command.add_option("--mode", options.mode, "what to measure: training and prefill, or decode")
      ->check(CLI::IsMember({"throughput", "latency"}))
      ->capture_default_str();
  command
      .add_option("--tokens", options.token_counts,
                  "tokens per rank; a list with commas in latency mode [default: 4096; latency: 1,2,4,8,16,32,64,128]")
      ->type_name("TOKENS")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, kMostTokens));
  command.add_option("--hidden", options.hidden, "values per token (bytes for byte); a row must have a multiple of 16 bytes")
      ->type_name("VALUES")
      ->check(CLI::Range(std::int64_t{1}, kMostHidden))
      ->capture_default_str();
  add_expert_options(command, options.num_experts, options.top_k);
  command.add_option("--dtype", options.dtype, "payload; fp8 has a float32 scale per 128 values and combines in bfloat16")
      ->check(CLI::IsMember({"bfloat16", "float16", "float32", "float64", "fp8", "byte"}))
      ->capture_default_str();
  command
      .add_option(
          "--quantize", options.quantize,
          "dispatch makes rows FP8 with a scale per 128 values: a float32, a float32 power of two, or its exponent byte")
      ->check(CLI::IsMember({"none", "float8", "float8-power-of-2", "float8-ue8m0"}))
      ->capture_default_str();
  add_layout_option(command, options.layout);
  command.add_option("--alignment", options.alignment, "rows to which each expert's group is aligned (expert-contiguous)")
      ->type_name("ROWS")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command
      .add_option("--expert-capacity", options.expert_capacity,
                  "rows per expert (expert-padded) [default: the busiest expert's]")
      ->type_name("ROWS")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens * kMaxTopK));
  command.add_option("--capacity", options.recv_capacity, "rows that a slot holds [default: enough for balanced routing]")
      ->type_name("ROWS")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens * kMaxRanks));
  command.add_option("--overflow", options.overflow, "rows without room: grow the slot, or drop them")
      ->check(CLI::IsMember({"grow", "drop"}))
      ->capture_default_str();
  command.add_option("--output", options.output, "results stay in the slot (zero copy), or go to the caller's memory")
      ->check(CLI::IsMember({"slot", "caller"}))
      ->capture_default_str();
  command
      .add_option("--bind", options.bind,
                  "CPU: give each rank a core of its own where there are enough, or leave it to the system")
      ->check(CLI::IsMember({"core", "none"}))
      ->capture_default_str();
  command.add_option("--caches", options.caches, "what operations begin with [default: cold; latency: warm]")
      ->check(CLI::IsMember({"cold", "warm"}));
  command.add_option("--routing", options.routing, "where the experts of each token come from: see below")
      ->type_name("uniform|zipf:S|grouped:G/K|FILE.npy")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of routing and payload")->type_name("NUMBER")->capture_default_str();
  command.add_option("--iters", options.num_iterations, "measured iterations [default: 20; latency: 200]")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1'000'000));
  command
      .add_option("--warmup", options.num_warmups,
                  "iterations before, not measured: they fault pages in [default: 5; latency: 20]")
      ->type_name("COUNT")
      ->check(CLI::Range(0, 1'000'000));
  command.add_flag("--check", options.check, "compare every row of every operation with what plain loops expect");
  command
      .add_option("--json", options.json_path, "write the header and the lines there too, as an object with a list `results`")
      ->type_name("FILE");
  command.add_option("--against", options.against, "measure another way too: OpenMPI's MPI_Alltoallv, or NCCL between GPUs")
      ->check(CLI::IsMember({"mpi", "nccl"}));
  add_gpu_options(command, options);
}

void add_plan(CLI::App& program, PlanOptions& options) {
  CLI::App& command = *program.add_subcommand("plan", "print the memory that a plan needs, from its shape alone");
  command.footer(
      "Prints the size of every region of a plan's memory on one rank, in bytes, bookkeeping (metadata) apart. Needs no ranks\n"
      "and allocates nothing. For latency mode also the results, which lie outside of the windows, and what windows with a\n"
      "place per (expert, rank, token) would hold.\n\n"
      "Example: tokenyard plan --ranks 2048 --experts 256 --top-k 8 --max-tokens 128 --lane float8_e4m3:7168 --lane "
      "float32:56\n"
      "Example: tokenyard plan --mode latency --ranks 16 --max-tokens 128 --quantize float8-ue8m0");
  command.add_option("--mode", options.mode, "throughput or latency")
      ->check(CLI::IsMember({"throughput", "latency"}))
      ->capture_default_str();
  command.add_option("--ranks", options.num_ranks, "number of ranks")
      ->type_name("COUNT")
      ->check(CLI::Range(1, kMaxRanks))
      ->capture_default_str();
  command.add_option("--experts", options.num_experts, "number of experts on all ranks together")
      ->type_name("COUNT")
      ->capture_default_str();
  command.add_option("--top-k", options.top_k, "experts per token")->type_name("COUNT")->capture_default_str();
  command.add_option("--max-tokens", options.max_tokens, "tokens per rank and call, at most")
      ->type_name("TOKENS")
      ->capture_default_str();
  command.add_option("--hidden", options.hidden, "values per token")->type_name("VALUES")->capture_default_str();
  command.add_option("--dtype", options.dtype, "payload: an element type, or fp8 for values with a float32 scale per 128")
      ->capture_default_str();
  command.add_option("--quantize", options.quantize, "rows become FP8 in dispatch, with a scale per 128 values of this kind")
      ->check(CLI::IsMember({"none", "float8", "float8-power-of-2", "float8-ue8m0"}))
      ->capture_default_str();
  command.add_flag("--combine-as-float8", options.combine_as_float8, "rows return as FP8 with float32 scales");
  command.add_option("--lane", options.lanes, "a lane instead of --hidden and --dtype, COUNT values per row; may be repeated")
      ->type_name("TYPE:COUNT");
  command.add_option("--combine", options.combine, "what combine carries, or none [default: bfloat16 for fp8, else lane 0]")
      ->type_name("TYPE:COUNT");
  add_layout_option(command, options.layout);
  command.add_option("--alignment", options.alignment, "rows to which each expert's group is aligned (expert-contiguous)")
      ->type_name("ROWS")
      ->capture_default_str();
  command.add_option("--expert-capacity", options.expert_capacity, "rows per expert (expert-padded)")
      ->type_name("ROWS")
      ->capture_default_str();
  command.add_option("--capacity", options.recv_capacity, "rows that a slot holds; 0: enough for balanced routing")
      ->type_name("ROWS")
      ->capture_default_str();
  command.add_option("--overflow", options.overflow, "rows without room: grow the slot, or drop them")
      ->check(CLI::IsMember({"grow", "drop"}))
      ->capture_default_str();
  command
      .add_option("--max-local-experts", options.max_local_experts, "room for later placements; 0: what the placement needs")
      ->type_name("COUNT")
      ->capture_default_str();
  command.add_option("--placement", options.placement_path, "a line of expert ids per rank [default: contiguous]")
      ->type_name("FILE");
  command.add_flag("--json", options.json, "print JSON instead of a table");
}

void add_report(CLI::App& program, ReportOptions& options) {
  CLI::App& command = *program.add_subcommand("report", "make a page from traces: who waits for whom, and which rank is late");
  command.footer(
      "Reads what TOKENYARD_TRACE=FILE has made the ranks of a program write (one file per process, give all of\n"
      "them) and makes one HTML page that needs nothing else: who sent how many rows and bytes to whom, who waited for whom\n"
      "and for how long, what each rank did when, how long each phase took. Prints one sentence that names the rank that is "
      "late, or says that\n"
      "nobody stands out. Files of killed processes are read as far as they go. Times are in seconds (s), milliseconds (ms)\n"
      "and microseconds (us).\n\n"
      "Example: tokenyard report trace.rank*.json -o page.html");
  command.add_option("traces", options.trace_paths, "the files of one run, of all its processes")
      ->type_name("FILE")
      ->required();
  command.add_option("-o,--output", options.page_path, fmt::format("the page [default: {}]", kDefaultPage))->type_name("FILE");
  command.add_flag("--json", options.json, "print the numbers of the page as JSON; the page itself only with -o");
}

void add_info(CLI::App& program, InfoOptions& options) {
  CLI::App& command = *program.add_subcommand("info", "print version, features, cores, memory and GPUs");
  command.footer(
      "Prints what this build can do and what this host has. Memory is in KiB, MiB and GiB (powers of 1,024), in JSON in\n"
      "bytes.\n\n"
      "Example: tokenyard info --json");
  command.add_flag("--measure", options.measure, "measure what GPUs and the links between them do, too");
  command.add_flag("--json", options.json, "print JSON instead of text");
}

void add_doctor(CLI::App& program, DoctorOptions& options) {
  CLI::App& command = *program.add_subcommand("doctor", "look for what keeps ranks from working here, and name the cure");
  command.footer(
      "Prints a line with a verdict for each thing that ranks need: ok, WARN (works, but worse than it could), FAIL, or -\n"
      "where nothing of the kind is here; and beneath it, behind =>, the cure. Put this page into every report of a problem.\n"
      "Then ranks meet, and test the library: windows, signals, and every row of dispatch and combine on a set of shapes.\n"
      "Started by torchrun, OpenMPI's mpirun or Slurm's srun, on several hosts too, a process is one rank and starts none;\n"
      "rank 0 prints what all have found. Memory is in KiB, MiB and GiB (powers of 1,024), times in microseconds (us).\n"
      "Exit code 1: something has failed; warnings do not count.\n\n"
      "Example: tokenyard doctor --ranks 4 --json");
  command
      .add_option("--ranks", options.num_ranks,
                  fmt::format("number of ranks [default: {}, or the launcher's]", DoctorOptions::kDefaultRanks))
      ->type_name("COUNT")
      ->check(CLI::Range(1, kMaxRanks));
  command.add_option("--seconds", options.seconds, "what the self-test may take: it begins nothing new afterwards")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  command.add_option("--timeout", options.timeout_seconds, "deadline of every wait, in seconds")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  command.add_flag_callback("--no-self-test", [&options] { options.self_test = false; }, "look only, and test nothing");
  command.add_flag("--json", options.json, "print the same lines as JSON");
}

int run(int argc, char** argv) {
  DemoOptions demo;
  BenchOptions bench;
  PlanOptions plan;
  ReportOptions report;
  InfoOptions info;
  DoctorOptions doctor;
  CLI::App program("Tokenyard moves the tokens of a Mixture-of-Experts layer to the ranks of their experts and back.",
                   "tokenyard");
  program.set_version_flag("--version", version());
  program.require_subcommand(1);
  program.footer("tokenyard COMMAND --help explains a command. Exit codes: 0 done, 1 failed, 2 not understood.");
  add_demo(program, demo);
  add_bench(program, bench);
  add_plan(program, plan);
  add_report(program, report);
  add_info(program, info);
  add_doctor(program, doctor);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  if (program.got_subcommand("demo")) return run_demo(demo);
  if (program.got_subcommand("bench")) return run_bench(bench);
  if (program.got_subcommand("plan")) return run_plan(plan);
  if (program.got_subcommand("doctor")) return run_doctor(doctor);
  if (program.got_subcommand("report")) return run_report(report);
  return run_info(info);
}

}  // namespace
}  // namespace tokenyard::cli

int main(int argc, char** argv) {
  try {
    return tokenyard::cli::run(argc, argv);
  } catch (const tokenyard::cli::UsageError& error) {
    fmt::print(stderr, "tokenyard: {}\n", error.what());
    return tokenyard::cli::kUsageExitCode;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tokenyard: {}\n", error.what());
    return 1;
  }
}
