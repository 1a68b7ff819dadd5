#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "cli/npy.hpp"
#include "cli/text.hpp"
#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

std::vector<std::string> demo(const std::vector<std::string>& arguments) {
  std::vector<std::string> all{"demo", "--text", sample_text()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

void expect_ok(const ProgramResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.output << result.errors;
  EXPECT_THAT(result.output, EndsWith("\nOK\n"));
}

TEST(demo_program, float32_agrees_exactly_on_four_processes) {
  const ProgramResult result = run_tokenyard(demo({}));
  expect_ok(result);
  EXPECT_THAT(result.output, HasSubstr("4 processes of this host"));
  EXPECT_THAT(result.output, HasSubstr("largest absolute error: 0\n"));
  EXPECT_THAT(result.output, HasSubstr("from \\ to  rank 0  rank 1  rank 2  rank 3"));
  EXPECT_EQ(result.errors, "");
}

TEST(demo_program, every_payload_stays_within_its_bound_on_threads_and_processes) {
  for (const char* dtype : {"float32", "bfloat16", "fp8"}) {
    for (const char* kind : {"--threads", "--processes"}) {
      SCOPED_TRACE(std::string(dtype) + " " + kind);
      const ProgramResult result =
          run_tokenyard(demo({kind, "--dtype", dtype, "--shared-expert", "--hidden", "128", "--max-tokens", "50"}));
      expect_ok(result);
      EXPECT_THAT(result.output, HasSubstr("elements beyond their bound: 0 of "));
    }
  }
}

TEST(demo_program, every_layout_gives_the_same_sums) {
  for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
    SCOPED_TRACE(layout);
    expect_ok(run_tokenyard(demo({"--layout", layout, "--ranks", "3", "--experts", "7", "--top-k", "5", "--hidden", "64"})));
  }
}

TEST(demo_program, latency_mode_agrees_with_the_same_reference) {
  const ProgramResult result = run_tokenyard(demo({"--mode", "latency", "--hidden", "64"}));
  expect_ok(result);
  EXPECT_THAT(result.output, HasSubstr("in latency mode, at most 32 tokens"));
  EXPECT_THAT(result.output, HasSubstr("largest absolute error: 0\n"));
  for (const char* layout : {"compact", "expert-contiguous", "expert-padded"}) {
    for (const char* dtype : {"bfloat16", "fp8"}) {
      SCOPED_TRACE(std::string(layout) + " " + dtype);
      expect_ok(run_tokenyard(demo({"--mode", "latency", "--layout", layout, "--dtype", dtype, "--ranks", "3", "--experts", "7",
                                    "--hidden", "192", "--shared-expert", "--threads"})));
    }
  }
}

TEST(demo_program, more_ranks_than_experts_or_only_one_rank_work) {
  expect_ok(run_tokenyard(demo({"--ranks", "6", "--experts", "4", "--top-k", "2", "--hidden", "64"})));
  expect_ok(run_tokenyard(demo({"--ranks", "1", "--hidden", "64"})));
}

TEST(demo_program, the_recorded_choices_can_be_replayed) {
  const std::string path = testing::TempDir() + "recorded.npy";
  expect_ok(run_tokenyard(demo({"--record", path, "--hidden", "64", "--experts", "8", "--top-k", "2"})));
  const NpyArray ids = read_npy(path);
  EXPECT_EQ(ids.dtype, DataType::kInt64);
  EXPECT_EQ(ids.num_columns, 2);
  EXPECT_EQ(ids.num_rows, static_cast<std::int64_t>(split_text(read_text_file(sample_text())).tokens.size()));
  const ProgramResult replay = run_tokenyard({"bench", "--routing", path, "--experts", "8", "--top-k", "2", "--tokens", "100",
                                              "--hidden", "64", "--iters", "2", "--check"});
  EXPECT_EQ(replay.exit_code, 0) << replay.errors;
}

// A port that was free a moment ago.
int find_free_port() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(listener, generic, length), 0);
  EXPECT_EQ(getsockname(listener, generic, &length), 0);
  close(listener);
  return ntohs(address.sin_port);
}

struct Launcher {
  const char* name;
  const char* rank_variable;
  const char* local_rank_variable;
  std::vector<std::string> settings;  // equal for both ranks
};

TEST(demo_program, processes_started_by_somebody_else_join_each_other) {
  const std::vector<Launcher> launchers{
      {"torchrun", "RANK", "LOCAL_RANK", {"WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1"}},
      {"OpenMPI",
       "OMPI_COMM_WORLD_RANK",
       "OMPI_COMM_WORLD_LOCAL_RANK",
       {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2"}},
      {"Slurm", "SLURM_PROCID", "SLURM_LOCALID", {"SLURM_STEP_NUM_TASKS=2", "SLURM_STEP_NODELIST=node7"}}};
  for (const Launcher& launcher : launchers) {
    SCOPED_TRACE(launcher.name);
    const std::string port = "MASTER_PORT=" + std::to_string(find_free_port());
    std::vector<std::future<ProgramResult>> ranks;
    for (const char* rank : {"0", "1"}) {
      std::vector<std::string> environment = launcher.settings;
      environment.insert(environment.end(), {port, std::string(launcher.rank_variable) + "=" + rank,
                                             std::string(launcher.local_rank_variable) + "=" + rank});
      ranks.push_back(
          std::async(std::launch::async, [environment] { return run_tokenyard(demo({"--hidden", "64"}), environment); }));
    }
    const ProgramResult first = ranks[0].get();
    const ProgramResult second = ranks[1].get();
    expect_ok(first);
    EXPECT_THAT(first.output, HasSubstr(std::string("2 processes, by the variables of ") + launcher.name));
    EXPECT_THAT(first.errors, HasSubstr("this is rank 0 of 2"));
    EXPECT_EQ(second.exit_code, 0) << second.errors;
    EXPECT_EQ(second.output, "");  // only rank 0 prints results
    EXPECT_THAT(second.errors, HasSubstr("this is rank 1 of 2"));
  }
}

}  // namespace
}  // namespace tokenyard::cli
