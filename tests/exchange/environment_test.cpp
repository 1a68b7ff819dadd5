// TcpRendezvous::from_environment().
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Settings = std::map<std::string, std::string>;

const Settings kGood{
    {"RANK", "3"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}};
const Settings kOpenMpi{{"OMPI_COMM_WORLD_RANK", "2"},
                        {"OMPI_COMM_WORLD_SIZE", "4"},
                        {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                        {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                        {"PMIX_NAMESPACE", "152961025"}};
const Settings kSlurm{{"SLURM_PROCID", "5"},
                      {"SLURM_NTASKS", "16"},
                      {"SLURM_LOCALID", "1"},
                      {"SLURM_JOB_ID", "1234567"},
                      {"SLURM_STEP_ID", "0"},
                      {"SLURM_STEP_NUM_TASKS", "8"},
                      {"SLURM_JOB_NODELIST", "login,gpu[017-020]"},
                      {"SLURM_STEP_NODELIST", "gpu[017-018]"}};

void apply(const Settings& settings) {
  for (const char* variable :
       {"TOKENYARD_PORT", "TOKENYARD_SECRET", "TOKENYARD_SECRET_FILE", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID"}) {
    unsetenv(variable);
  }
  for (const Settings& launcher : {kGood, kOpenMpi, kSlurm}) {
    for (const auto& [variable, value] : launcher) unsetenv(variable.c_str());
  }
  for (const auto& [variable, value] : settings) setenv(variable.c_str(), value.c_str(), 1);
}

// `more` replaces what `settings` says; an empty value takes a variable away.
Settings with(Settings settings, const Settings& more) {
  for (const auto& [variable, value] : more) settings[variable] = value;
  std::erase_if(settings, [](const auto& setting) { return setting.second.empty(); });
  return settings;
}

Settings changed(const std::string& variable, const std::string& value) {
  Settings settings = kGood;
  settings[variable] = value;
  return settings;
}

TcpRendezvous read_with(const Settings& settings) {
  apply(settings);
  return TcpRendezvous::from_environment();
}

// What reading these settings says is wrong.
std::string complaint_about(const Settings& settings) {
  apply(settings);
  const auto error = error_of([] { TcpRendezvous::from_environment(); });
  if (!error) return "nothing";
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  return error->what();
}

class Environment : public testing::Test {
 protected:
  void TearDown() override { apply({}); }
};

TEST_F(Environment, is_read_as_torchrun_sets_it) {
  apply(kGood);
  const TcpRendezvous rendezvous = TcpRendezvous::from_environment();
  EXPECT_EQ(rendezvous.rank, 3);
  EXPECT_EQ(rendezvous.num_ranks, 8);
  EXPECT_EQ(rendezvous.local_rank, 1);
  EXPECT_EQ(rendezvous.address, "10.0.0.1");
  EXPECT_EQ(rendezvous.port, 29500);
  EXPECT_EQ(rendezvous.listen_fd, -1);
}

TEST_F(Environment, port_steps_aside_for_torchruns_store) {
  for (const char* yes : {"True", "true", "1"}) {
    apply(changed("TORCHELASTIC_USE_AGENT_STORE", yes));
    EXPECT_EQ(TcpRendezvous::from_environment().port, 29501);
  }
  for (const char* no : {"False", "0", ""}) {
    apply(changed("TORCHELASTIC_USE_AGENT_STORE", no));
    EXPECT_EQ(TcpRendezvous::from_environment().port, 29500);
  }
}

TEST_F(Environment, own_port_overrides_both) {
  Settings settings = changed("TORCHELASTIC_USE_AGENT_STORE", "True");
  settings["TOKENYARD_PORT"] = "4711";
  apply(settings);
  EXPECT_EQ(TcpRendezvous::from_environment().port, 4711);
  settings.erase("MASTER_PORT");
  apply(settings);
  EXPECT_EQ(TcpRendezvous::from_environment().port, 4711);
}

TEST_F(Environment, each_missing_variable_is_named) {
  for (const auto& [variable, value] : kGood) {
    Settings settings = kGood;
    settings.erase(variable);
    apply(settings);
    const auto error = error_of([] { TcpRendezvous::from_environment(); });
    ASSERT_TRUE(error) << variable;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), AllOf(HasSubstr(variable + " is not set"), HasSubstr("WORLD_SIZE=2")));
  }
}

TEST_F(Environment, each_malformed_value_is_shown) {
  const std::pair<const char*, const char*> bad[] = {{"RANK", ""},           {"RANK", "-1"},
                                                     {"RANK", "8"},          {"RANK", "3x"},
                                                     {"RANK", " 3"},         {"RANK", "0x3"},
                                                     {"RANK", "+3"},         {"RANK", "99999999999999999999"},
                                                     {"WORLD_SIZE", "0"},    {"WORLD_SIZE", "2049"},
                                                     {"WORLD_SIZE", "all"},  {"WORLD_SIZE", "-8"},
                                                     {"LOCAL_RANK", "8"},    {"LOCAL_RANK", "-1"},
                                                     {"LOCAL_RANK", "one"},  {"MASTER_ADDR", ""},
                                                     {"MASTER_PORT", "0"},   {"MASTER_PORT", "65536"},
                                                     {"MASTER_PORT", "ssh"}, {"TOKENYARD_PORT", "0"},
                                                     {"TOKENYARD_PORT", ""}, {"TOKENYARD_PORT", "70000"}};
  for (const auto& [variable, value] : bad) {
    apply(changed(variable, value));
    const auto error = error_of([] { TcpRendezvous::from_environment(); });
    ASSERT_TRUE(error) << variable << '=' << value;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    const std::string expected =
        *value == '\0' ? std::string(variable) + " is set but empty" : std::string(variable) + "='" + value + "'";
    EXPECT_THAT(error->what(), AllOf(HasSubstr(expected), HasSubstr("MASTER_ADDR=")));
  }
}

TEST_F(Environment, there_is_no_port_after_the_last) {
  Settings settings = changed("TORCHELASTIC_USE_AGENT_STORE", "True");
  settings["MASTER_PORT"] = "65535";
  apply(settings);
  const auto error = error_of([] { TcpRendezvous::from_environment(); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("65535"), HasSubstr("TOKENYARD_PORT")));
}

TEST_F(Environment, without_a_launcher_is_an_error_that_names_all_ways_to_start) {
  EXPECT_THAT(complaint_about({}), AllOf(HasSubstr("RANK is not set"), HasSubstr("torchrun, mpirun or srun")));
}

TEST_F(Environment, is_read_as_openmpi_sets_it) {
  const TcpRendezvous rendezvous = read_with(kOpenMpi);
  EXPECT_EQ(rendezvous.rank, 2);
  EXPECT_EQ(rendezvous.num_ranks, 4);
  EXPECT_EQ(rendezvous.local_rank, 2);
  EXPECT_EQ(rendezvous.address, "127.0.0.1");
  EXPECT_GE(rendezvous.port, 20000);
  EXPECT_LT(rendezvous.port, 32000);
}

TEST_F(Environment, ports_of_openmpi_jobs_differ_and_are_the_same_on_all_ranks) {
  const std::uint16_t port = read_with(kOpenMpi).port;
  EXPECT_EQ(read_with(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}})).port, port);
  EXPECT_NE(read_with(with(kOpenMpi, {{"PMIX_NAMESPACE", "152961026"}})).port, port);
  EXPECT_NE(read_with(with(kOpenMpi, {{"PMIX_NAMESPACE", "prterun-host-4242@1"}})).port, port);
  EXPECT_EQ(read_with(with(kOpenMpi, {{"PMIX_NAMESPACE", ""}})).port, 29500);
}

TEST_F(Environment, openmpi_on_several_hosts_needs_an_address) {
  const Settings settings = with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_THAT(complaint_about(settings), AllOf(HasSubstr("several hosts"), HasSubstr("mpirun -x MASTER_ADDR=")));
  EXPECT_EQ(read_with(with(settings, {{"MASTER_ADDR", "head"}})).address, "head");
}

TEST_F(Environment, address_and_ports_that_are_set_count_with_every_launcher) {
  for (const Settings& launcher : {kOpenMpi, kSlurm}) {
    const TcpRendezvous rendezvous = read_with(with(launcher, {{"MASTER_ADDR", "10.9.8.7"}, {"MASTER_PORT", "4000"}}));
    EXPECT_EQ(rendezvous.address, "10.9.8.7");
    EXPECT_EQ(rendezvous.port, 4000);
    EXPECT_EQ(read_with(with(launcher, {{"MASTER_PORT", "4000"}, {"TOKENYARD_PORT", "5000"}})).port, 5000);
  }
}

TEST_F(Environment, is_read_as_slurm_sets_it) {
  const TcpRendezvous rendezvous = read_with(kSlurm);
  EXPECT_EQ(rendezvous.rank, 5);
  EXPECT_EQ(rendezvous.num_ranks, 8) << "the step's tasks, not the job's";
  EXPECT_EQ(rendezvous.local_rank, 1);
  EXPECT_EQ(rendezvous.address, "gpu017") << "the step's first host, not the job's";
  EXPECT_EQ(rendezvous.port, 20000 + 1234567 % 12000);
}

TEST_F(Environment, slurm_is_read_without_the_variables_of_a_step) {
  const Settings settings = with(kSlurm, {{"SLURM_STEP_ID", ""}, {"SLURM_STEP_NUM_TASKS", ""}, {"SLURM_STEP_NODELIST", ""}});
  const TcpRendezvous rendezvous = read_with(settings);
  EXPECT_EQ(rendezvous.num_ranks, 16);
  EXPECT_EQ(rendezvous.address, "login");
}

TEST_F(Environment, steps_of_a_slurm_job_have_ports_of_their_own) {
  EXPECT_EQ(read_with(with(kSlurm, {{"SLURM_STEP_ID", "2"}})).port, 20000 + (1234567 + 2 * 997) % 12000);
  const std::uint16_t port = read_with(with(kSlurm, {{"SLURM_STEP_ID", "18446744073709551615"}})).port;
  EXPECT_GE(port, 20000);
  EXPECT_LT(port, 32000);
}

TEST_F(Environment, slurm_on_one_host_meets_on_loopback) {
  EXPECT_EQ(read_with(with(kSlurm, {{"SLURM_STEP_NODELIST", "gpu[017]"}})).address, "127.0.0.1");
}

TEST_F(Environment, what_slurm_forgot_or_garbled_is_named) {
  const std::pair<const char*, const char*> bad[] = {{"SLURM_LOCALID", ""},
                                                     {"SLURM_JOB_ID", ""},
                                                     {"SLURM_JOB_ID", "12a"},
                                                     {"SLURM_STEP_ID", "-1"},
                                                     {"SLURM_PROCID", "8"},
                                                     {"SLURM_LOCALID", "8"},
                                                     {"SLURM_STEP_NUM_TASKS", "many"},
                                                     {"SLURM_STEP_NODELIST", "gpu[1-"},
                                                     {"SLURM_STEP_NODELIST", "a b"},
                                                     {"SLURM_PROCID", "five"},
                                                     {"SLURM_STEP_NUM_TASKS", "0"}};
  for (const auto& [variable, value] : bad) {
    const std::string expected =
        *value == '\0' ? std::string(variable) + " is not set" : std::string(variable) + "='" + value + "'";
    EXPECT_THAT(complaint_about(with(kSlurm, {{variable, value}})), HasSubstr(expected));
  }
}

TEST_F(Environment, what_openmpi_forgot_or_garbled_is_named) {
  for (const auto& [variable, value] : kOpenMpi) {
    if (variable == "PMIX_NAMESPACE") continue;
    EXPECT_THAT(complaint_about(with(kOpenMpi, {{variable, ""}})), HasSubstr(variable + " is not set"));
    EXPECT_THAT(complaint_about(with(kOpenMpi, {{variable, "x"}})), HasSubstr(variable + "='x'"));
  }
  EXPECT_THAT(complaint_about(with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "5"}})), HasSubstr("from 1 to 4"));
  EXPECT_THAT(
      complaint_about(with(with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), {{"OMPI_COMM_WORLD_LOCAL_RANK", "2"}})),
      HasSubstr("OMPI_COMM_WORLD_LOCAL_RANK='2'"));
}

TEST_F(Environment, the_launcher_nearest_to_the_process_counts_and_is_logged) {
  const std::pair<Settings, const char*> cases[] = {{kSlurm, "as Slurm sets it: rank 5"},
                                                    {with(kSlurm, kOpenMpi), "as OpenMPI sets it: rank 2"},
                                                    {with(kSlurm, kGood), "as torchrun sets it: rank 3"}};
  // The level of the log is read once in a process, so each asks a new one.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const auto& [settings, expected] : cases) {
    EXPECT_EXIT(
        {
          setenv("TOKENYARD_LOG", "info", 1);
          read_with(with(settings, {{"TORCHELASTIC_RUN_ID", "job"}}));
          std::_Exit(0);
        },
        testing::ExitedWithCode(0), expected);
  }
}

TEST_F(Environment, names_the_launcher_and_looks_at_no_values) {
  const auto launcher_of = [](const Settings& settings) {
    apply(settings);
    return TcpRendezvous::launcher_from_environment();
  };
  EXPECT_EQ(launcher_of({}), "");
  EXPECT_EQ(launcher_of({{"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}}), "");
  EXPECT_EQ(launcher_of({{"WORLD_SIZE", "many"}}), "torchrun");
  EXPECT_EQ(launcher_of(kOpenMpi), "OpenMPI");
  EXPECT_EQ(launcher_of(kSlurm), "Slurm");
  EXPECT_EQ(launcher_of(with(with(kSlurm, kOpenMpi), kGood)), "torchrun");
  EXPECT_EQ(launcher_of(with(kSlurm, {{"SLURM_STEP_NODELIST", ""}})), "") << "a batch script is no rank";
}

TEST_F(Environment, tells_the_local_rank_alone_and_zero_without_a_launcher) {
  const auto local_rank_of = [](const Settings& settings) {
    apply(settings);
    return TcpRendezvous::local_rank_from_environment();
  };
  EXPECT_EQ(local_rank_of({}), 0);
  EXPECT_EQ(local_rank_of(kGood), 1);
  EXPECT_EQ(local_rank_of(with(kGood, {{"MASTER_ADDR", ""}, {"MASTER_PORT", ""}})), 1) << "rank 0's address is not needed";
  EXPECT_EQ(local_rank_of(kOpenMpi), 2);
  EXPECT_EQ(local_rank_of(kSlurm), 1);
  EXPECT_THROW(local_rank_of(with(kGood, {{"LOCAL_RANK", "first"}})), Error);
}

TEST_F(Environment, launchers_that_contradict_each_other_are_an_error) {
  // Left behind in the shell that mpirun was called from, handed on to every rank.
  EXPECT_THAT(complaint_about(with(with(kOpenMpi, kGood), {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}})),
              AllOf(HasSubstr("RANK=0 and WORLD_SIZE=1 contradict OMPI_COMM_WORLD_RANK=2 and OMPI_COMM_WORLD_SIZE=4"),
                    HasSubstr("OpenMPI set"), HasSubstr("unset RANK and WORLD_SIZE")));
  EXPECT_THAT(complaint_about(with(kSlurm, kGood)), HasSubstr("contradict SLURM_PROCID=5 and SLURM_STEP_NUM_TASKS=8"));
}

TEST_F(Environment, launchers_that_agree_or_nest_are_no_contradiction) {
  EXPECT_EQ(read_with(with(with(kSlurm, kGood), {{"RANK", "5"}})).rank, 5) << "a script that passes on what Slurm says";
  EXPECT_EQ(read_with(with(with(kSlurm, kGood), {{"WORLD_SIZE", "64"}})).num_ranks, 64) << "several ranks in each task";
  EXPECT_EQ(read_with(with(with(kSlurm, kGood), {{"TORCHELASTIC_RUN_ID", "job"}})).rank, 3) << "torchrun numbers as it likes";
  EXPECT_EQ(read_with(with(with(kSlurm, kGood), {{"SLURM_STEP_NODELIST", ""}})).rank, 3) << "a batch script's own ranks";
}

TEST_F(Environment, brings_the_secret) {
  EXPECT_EQ(read_with(kGood).secret, "");
  EXPECT_EQ(read_with(with(kGood, {{"TOKENYARD_SECRET", kTestSecret}})).secret, kTestSecret);
  EXPECT_THAT(complaint_about(with(kGood, {{"TOKENYARD_SECRET", "short"}})), HasSubstr("from 16 to 4096"));
}

}  // namespace
}  // namespace tokenyard::test
