// `tokenyard doctor` on healthy ranks, and with faults that are really there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/program.hpp"

namespace tokenyard::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

constexpr const char* kSecret = "correct horse battery staple";

struct Visit {
  ProgramResult program;
  Json report;

  // All lines of this name.
  std::vector<Json> lines(const std::string& name) const {
    std::vector<Json> found;
    for (const Json& line : report["findings"]) {
      if (line["name"] == name) found.push_back(line);
    }
    return found;
  }

  // The first line of this name with this verdict; null if there is none.
  Json line(const std::string& name, const std::string& verdict) const {
    for (const Json& found : lines(name)) {
      if (found["verdict"] == verdict) return found;
    }
    ADD_FAILURE() << "no " << verdict << " " << name << " in\n" << program.output << program.errors;
    return {{"value", ""}, {"why", ""}, {"cure", ""}};
  }
};

Visit read(ProgramResult program) {
  Visit visit{.program = std::move(program), .report = Json::parse(visit.program.output, nullptr, false)};
  visit.report = Json::parse(visit.program.output, nullptr, false);
  EXPECT_FALSE(visit.report.is_discarded()) << visit.program.output << visit.program.errors;
  if (visit.report.is_discarded()) visit.report = Json::object({{"findings", Json::array()}});
  return visit;
}

Visit visit_doctor(std::vector<std::string> arguments, const std::vector<std::string>& environment = {}) {
  arguments.insert(arguments.begin(), {"doctor", "--json"});
  return read(run_tokenyard(arguments, environment));
}

// `script` is shell text that starts `$doctor ...`; its standard output is the report.
Visit visit_by_script(const std::string& script) {
  return read(run_script("export doctor='" TOKENYARD_PROGRAM " doctor --json'\n" + script));
}

std::vector<std::string> names_in(const Json& report) {
  std::vector<std::string> names;
  for (const Json& line : report["findings"]) names.push_back(line["name"]);
  return names;
}

TEST(doctor_program, healthy_ranks_pass_and_every_row_is_checked) {
  const Visit visit = visit_doctor({"--ranks", "2"});
  EXPECT_EQ(visit.program.exit_code, 0) << visit.program.output;
  EXPECT_EQ(visit.report["ok"], true);
  EXPECT_EQ(visit.report["failures"], 0);
  EXPECT_EQ(visit.report["ranks"], 2);
  for (const char* name : {"tokenyard", "system", "model", "memory", "open files", "sealed memfd", "UNIX sockets", "launcher",
                           "meeting", "hosts", "clocks", "group", "window", "shapes"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(visit.lines(name).size(), 1u);
    visit.line(name, "ok");
  }
  EXPECT_THAT(visit.line("shapes", "ok")["value"].get<std::string>(), HasSubstr("14 of 14 shapes"));
  EXPECT_EQ(visit.program.errors, "");
}

TEST(doctor_program, the_page_has_the_lines_of_the_json) {
  const Visit visit = visit_doctor({"--ranks", "2", "--seconds", "0"});
  const ProgramResult page = run_tokenyard({"doctor", "--ranks", "2", "--seconds", "0"});
  EXPECT_EQ(page.exit_code, 0) << page.output;
  std::string::size_type position = 0;
  for (const std::string& name : names_in(visit.report)) {
    position = page.output.find("  " + name + "  ", position);
    ASSERT_NE(position, std::string::npos) << name << " is missing, or out of order, in\n" << page.output;
  }
  EXPECT_THAT(page.output, HasSubstr("\nOK"));
  EXPECT_THAT(page.output, Not(HasSubstr("\x1b["))) << "colours are for terminals";
}

TEST(doctor_program, says_what_is_not_there_without_failing) {
  if (access("/dev/nvidiactl", F_OK) == 0) GTEST_SKIP() << "this host has an NVIDIA driver";
  const Visit visit = visit_doctor({"--no-self-test"});
  EXPECT_EQ(visit.line("driver", "not applicable")["why"], "no NVIDIA driver: GPU ranks are not possible here");
  EXPECT_TRUE(visit.lines("shapes").empty());
  EXPECT_TRUE(visit.lines("meeting").empty());
}

TEST(doctor_program, the_self_test_is_bounded) {
  const Visit visit = visit_doctor({"--ranks", "2", "--seconds", "0"});
  EXPECT_EQ(visit.program.exit_code, 0) << visit.program.output;
  const Json line = visit.line("shapes", "warning");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("0 of 14 shapes"));
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("--seconds 60"));
}

// --- Faults ------------------------------------------------------------------------------------------------------------------

std::string write_secret(mode_t mode) {
  std::string path = testing::TempDir() + "doctor_program_test_secret";
  std::ofstream(path) << kSecret;
  chmod(path.c_str(), mode);
  return path;
}

TEST(doctor_finds, a_secret_that_others_can_read) {
  const std::string path = write_secret(0644);
  const Visit visit = visit_doctor({"--no-self-test"}, {"TOKENYARD_SECRET_FILE=" + path});
  EXPECT_EQ(visit.program.exit_code, 1);
  const Json line = visit.line("secret", "failure");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("others than you may use it (mode 0644)"));
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("chmod 600 '" + path + "'"));

  write_secret(0600);
  EXPECT_EQ(visit_doctor({"--no-self-test"}, {"TOKENYARD_SECRET_FILE=" + path}).program.exit_code, 0)
      << "the cure does not cure";
}

TEST(doctor_finds, no_secret_where_one_is_needed_and_never_shows_one) {
  const std::vector<std::string> rank{"RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=1", "MASTER_ADDR=192.0.2.1", "MASTER_PORT=29500"};
  const ProgramResult without = run_tokenyard({"doctor", "--no-self-test"}, rank);
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_THAT(without.errors, AllOf(HasSubstr("'192.0.2.1' is no loopback address, and there is no secret"),
                                    HasSubstr("=> export TOKENYARD_SECRET=$(head -c 32 /dev/urandom | base64)")));

  const ProgramResult with = run_tokenyard({"doctor", "--no-self-test"}, {std::string("TOKENYARD_SECRET=") + kSecret});
  EXPECT_EQ(with.exit_code, 0);
  EXPECT_THAT(with.output, HasSubstr("TOKENYARD_SECRET, 28 bytes"));
  EXPECT_THAT(with.output + with.errors, Not(HasSubstr(kSecret)));
}

TEST(doctor_finds, an_address_that_does_not_resolve) {
  const std::vector<std::string> place{"MASTER_ADDR=no-such-host.invalid", "MASTER_PORT=29500"};
  const Json line = visit_doctor({"--no-self-test"}, place).line("address", "failure");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("'no-such-host.invalid' does not resolve"));
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("correct MASTER_ADDR"));

  std::vector<std::string> rank = place;
  rank.insert(rank.end(), {"RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=1"});
  const ProgramResult result = run_tokenyard({"doctor", "--timeout", "30"}, rank);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "") << "rank 0 prints the page";
  EXPECT_THAT(result.errors, AllOf(HasSubstr("[rank 1]: failure: address"), HasSubstr("=> correct MASTER_ADDR")));
}

// Listens on a port of loopback and answers everybody in another language, if at all.
class Stranger {
 public:
  explicit Stranger(std::string answer)
      : answer_(std::move(answer)), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_, generic, length), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    EXPECT_EQ(getsockname(listener_, generic, &length), 0);
    port_ = std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int guest = 0; (guest = accept(listener_, nullptr, nullptr)) >= 0;) {
        EXPECT_EQ(send(guest, answer_.data(), answer_.size(), MSG_NOSIGNAL), static_cast<ssize_t>(answer_.size()));
        shutdown(guest, SHUT_WR);
        char letter = 0;
        while (recv(guest, &letter, 1, 0) > 0) {
        }
        close(guest);
      }
    });
  }
  ~Stranger() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  const std::string& port() const { return port_; }

 private:
  std::string answer_;
  int listener_;
  std::string port_;
  std::thread thread_;
};

std::vector<std::string> one_rank_of_two(const std::string& rank, const std::string& port) {
  return {"RANK=" + rank, "WORLD_SIZE=2", "LOCAL_RANK=" + rank, "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port};
}

TEST(doctor_finds, somebody_else_at_rank_zeros_port) {
  const Stranger stranger("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
  const Visit first = visit_doctor({"--timeout", "3"}, one_rank_of_two("0", stranger.port()));
  EXPECT_EQ(first.program.exit_code, 1);
  const Json line = first.line("port " + stranger.port(), "failure");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("Address already in use"));
  EXPECT_THAT(line["cure"].get<std::string>(), AllOf(HasSubstr("ss -ltnp"), HasSubstr("TOKENYARD_PORT")));

  const ProgramResult second = run_tokenyard({"doctor", "--timeout", "3"}, one_rank_of_two("1", stranger.port()));
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.errors, AllOf(HasSubstr("failure: meeting"), HasSubstr("is not rank 0 of this job"),
                                   HasSubstr("=> a port for this job alone: TOKENYARD_PORT")));
}

TEST(doctor_finds, nobody_at_rank_zeros_port) {
  std::string port;
  {
    port = Stranger("").port();
  }
  const ProgramResult result = run_tokenyard({"doctor", "--timeout", "2"}, one_rank_of_two("1", port));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors,
              AllOf(HasSubstr("could not reach rank 0"), HasSubstr("Connection refused"), HasSubstr("=> start all ranks")));
}

TEST(doctor_finds, ranks_that_share_a_core) {
  const long num_cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (num_cores < 2) GTEST_SKIP() << "this host has one core";
  const Visit visit = visit_by_script("taskset -c 0 $doctor --ranks 2 --no-self-test");
  const Json line = visit.line("cores", "warning");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("1 of " + std::to_string(num_cores) + " allowed (0) for 2 ranks"));
  EXPECT_THAT(line["cure"].get<std::string>(), AllOf(HasSubstr("taskset -c 0-"), HasSubstr("--bind-to none")));
  visit_doctor({"--ranks", "2", "--no-self-test"}).line("cores", "ok");
}

TEST(doctor_finds, launched_ranks_that_share_a_core) {
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "this host has one core";
  std::string port;
  {
    port = Stranger("").port();
  }
  const std::string script = "export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" + port + R"(
    RANK=1 LOCAL_RANK=1 taskset -c 0 $doctor --no-self-test &
    RANK=0 LOCAL_RANK=0 taskset -c 0 $doctor --no-self-test
    wait)";
  const Visit visit = visit_by_script(script);
  visit.line("cores", "ok");  // each by itself has one
  EXPECT_THAT(visit.line("cores together", "warning")["cure"].get<std::string>(), HasSubstr("--bind-to none"));
}

TEST(doctor_finds, too_few_file_descriptors) {
  const Visit visit = visit_by_script("ulimit -S -n 16; $doctor --ranks 4 --timeout 5");
  EXPECT_EQ(visit.program.exit_code, 1);
  const Json line = visit.line("open files", "failure");
  EXPECT_EQ(line["value"], "16");
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("ulimit -n "));
}

TEST(doctor_finds, a_limited_address_space) {
  const Visit visit = visit_by_script("ulimit -S -v 8000000; $doctor --no-self-test");
  EXPECT_EQ(visit.line("address space", "warning")["cure"], "ulimit -v unlimited");
}

TEST(doctor_finds, a_quota_that_affinity_does_not_show) {
  const std::string group = "/sys/fs/cgroup/cpu/tokenyard_doctor_test_" + std::to_string(getpid());
  if (mkdir(group.c_str(), 0755) != 0) GTEST_SKIP() << "control groups of version 1 cannot be made here";
  const Visit visit = visit_by_script("echo 50000 > " + group + "/cpu.cfs_quota_us; echo $$ > " + group + "/cgroup.procs\n" +
                                      "$doctor --ranks 2 --no-self-test");
  const Json line = visit.line("CPU quota", "warning");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("0.50 cores"));
  EXPECT_THAT(line["cure"].get<std::string>(), AllOf(HasSubstr(group + "/cpu.cfs_quota_us"), HasSubstr("Waiting::kYield")));
  EXPECT_EQ(rmdir(group.c_str()), 0);
}

TEST(doctor_finds, shared_memory_that_is_full_or_cannot_be_written) {
  if (run_script("unshare --mount true").exit_code != 0) GTEST_SKIP() << "only root may mount";
  const std::string full = R"(unshare --mount sh -c "
    mount -t tmpfs -o size=64k tmpfs /dev/shm
    head -c 65536 /dev/zero > /dev/shm/leftover
    $doctor --no-self-test")";
  EXPECT_THAT(visit_by_script(full).line("/dev/shm", "warning")["cure"].get<std::string>(),
              AllOf(HasSubstr("remove what jobs have left"), HasSubstr("--shm-size")));
  const std::string closed = R"(unshare --mount sh -c "
    mount -t tmpfs -o ro tmpfs /dev/shm
    $doctor --no-self-test")";
  const Json line = visit_by_script(closed).line("/dev/shm", "warning");
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("Read-only file system"));
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("remount,rw"));
}

// Sends `signal` to the third of four ranks, `delay` after they have been started.
Visit disturb(const std::string& signal, const std::string& delay) {
  return visit_by_script(R"(
    $doctor --ranks 4 --timeout 4 > )" +
                         testing::TempDir() + R"(disturbed.json &
    program=$!
    set --
    # Each probe that runs apart is one child; the ranks are four.
    while [ $# -lt 4 ]; do
      sleep 0.01
      set -- $(cat /proc/$program/task/$program/children)
    done
    sleep )" + delay + "\n    kill -" +
                         signal + R"( $3
    echo $3 > )" + testing::TempDir() +
                         R"(disturbed.rank
    wait $program
    code=$?
    cat )" + testing::TempDir() +
                         "disturbed.json\n    exit $code");
}

std::string disturbed_process() {
  std::string process;
  std::ifstream(testing::TempDir() + "disturbed.rank") >> process;
  return process;
}

// The failure that names rank 2, whichever step it was in.
Json failure_of_rank_two(const Visit& visit) {
  for (const Json& line : visit.report["findings"]) {
    if (line["verdict"] == "failure" && line["value"].get<std::string>().find("rank 2 (process ") == 0) return line;
  }
  ADD_FAILURE() << "nobody names rank 2 in\n" << visit.program.output << visit.program.errors;
  return {{"value", ""}, {"cure", ""}};
}

TEST(doctor_finds, a_stopped_rank) {
  for (const char* delay : {"0", "0.4"}) {  // while ranks meet, and in the self-test
    SCOPED_TRACE(delay);
    const Visit visit = disturb("STOP", delay);
    EXPECT_EQ(visit.program.exit_code, 1);
    const Json line = failure_of_rank_two(visit);
    EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("is stopped"));
    EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("kill -CONT " + disturbed_process()));
  }
}

TEST(doctor_finds, a_killed_rank) {
  const Visit visit = disturb("KILL", "0.1");
  EXPECT_EQ(visit.program.exit_code, 1);
  const Json line = failure_of_rank_two(visit);
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("process " + disturbed_process() + " on"));
  EXPECT_THAT(line["value"].get<std::string>(), HasSubstr("has died"));
  EXPECT_THAT(line["cure"].get<std::string>(), HasSubstr("killed process"));
}

// --- Launchers ---------------------------------------------------------------------------------------------------------------

TEST(doctor_program, rank_zero_prints_for_all_launched_ranks) {
  std::string port;
  {
    port = Stranger("").port();
  }
  std::future<ProgramResult> second =
      std::async(std::launch::async, [&] { return run_tokenyard({"doctor"}, one_rank_of_two("1", port)); });
  const Visit visit = visit_doctor({}, one_rank_of_two("0", port));
  EXPECT_EQ(visit.program.exit_code, 0) << visit.program.output << visit.program.errors;
  EXPECT_THAT(visit.line("launcher", "ok")["value"].get<std::string>(), HasSubstr("torchrun: rank 0 of 2"));
  EXPECT_THAT(visit.line("variables", "ok")["value"].get<std::string>(), HasSubstr("MASTER_PORT=" + port));
  EXPECT_EQ(visit.lines("memory").size(), 1u);
  visit.line("shapes", "ok");
  const ProgramResult silent = second.get();
  EXPECT_EQ(silent.exit_code, 0);
  EXPECT_EQ(silent.output + silent.errors, "");
}

TEST(doctor_program, a_fault_of_one_launched_rank_is_on_rank_zeros_page) {
  std::string port;
  {
    port = Stranger("").port();
  }
  const std::string script = "export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" + port + R"(
    (ulimit -S -v 8000000; RANK=1 LOCAL_RANK=1 $doctor --no-self-test) &
    RANK=0 LOCAL_RANK=0 $doctor --no-self-test
    wait)";
  const Visit visit = visit_by_script(script);
  EXPECT_EQ(visit.line("address space", "warning")["ranks"], "1");
  EXPECT_EQ(visit.line("address space", "ok")["ranks"], "0");
}

TEST(doctor_program, misread_variables_are_a_failure_on_the_page) {
  const Visit visit = visit_doctor({}, {"RANK=0", "WORLD_SIZE=many"});
  EXPECT_EQ(visit.program.exit_code, 1);
  EXPECT_THAT(visit.line("launcher", "failure")["value"].get<std::string>(), HasSubstr("WORLD_SIZE='many'"));
}

}  // namespace
}  // namespace tokenyard::cli
