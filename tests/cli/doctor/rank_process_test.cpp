#include "cli/doctor/rank_process.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

// A child that does nothing, ended and reaped at the end.
class Child {
 public:
  Child() : process_(fork()) {
    while (process_ == 0) pause();
  }
  ~Child() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  pid_t process() const { return process_; }
  void stop() const {
    kill(process_, SIGSTOP);
    waitpid(process_, nullptr, WUNTRACED);
  }
  void end() const {
    kill(process_, SIGKILL);
    siginfo_t ignored;
    waitid(P_PID, static_cast<id_t>(process_), &ignored, WEXITED | WNOWAIT);
  }

 private:
  pid_t process_;
};

Finding report_on(const RankProcess& culprit, ErrorCode code = ErrorCode::kTimeout, int reporter = 0) {
  SectionFindings findings(Section::kSelfTest);
  const Failure failure{.code = code, .phase = Phase::kDispatchRows, .culprit = 1, .reporter = reporter};
  report_error(findings, "shapes", Error(failure, "rank 0 waited for rank 1"), 0, {{}, culprit});
  return findings.take().at(0);
}

TEST(rank_process, the_state_of_its_process_decides_what_is_wrong) {
  const Child child;
  const RankProcess culprit{.host = host_name(), .process = child.process()};
  const std::string name = "rank 1 (process " + std::to_string(child.process()) + " on " + host_name() + ")";
  EXPECT_EQ(report_on(culprit).value, name + " is late or stuck");
  EXPECT_EQ(report_on(culprit, ErrorCode::kPeerLost).value, name + " has given up");
  child.stop();
  EXPECT_EQ(report_on(culprit).value, name + " is stopped");
  EXPECT_THAT(report_on(culprit).cure, HasSubstr("kill -CONT " + std::to_string(child.process())));
  child.end();
  EXPECT_EQ(report_on(culprit).value, name + " has died");
}

// Its connections close before its state changes, so whoever sees them close may look in between.
TEST(rank_process, has_died_as_soon_as_its_connections_are_closed) {
  for (int i = 0; i < 100; ++i) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const Child child;
    close(ends[1]);  // the child holds the other one
    kill(child.process(), SIGKILL);
    char ignored = 0;
    EXPECT_EQ(read(ends[0], &ignored, 1), 0);
    EXPECT_EQ(state_of(child.process()), 'Z') << "child " << i;
    close(ends[0]);
  }
}

TEST(rank_process, of_other_hosts_nothing_is_claimed) {
  const RankProcess culprit{.host = "another-host", .process = getpid()};
  EXPECT_THAT(report_on(culprit).value, HasSubstr(" on another-host) is late or stuck"));
  EXPECT_THAT(report_on({}).value, HasSubstr("rank 1 is late or stuck"));
  EXPECT_THAT(report_on(culprit, ErrorCode::kPeerLost).value, HasSubstr("has died or given up"));
}

TEST(rank_process, who_noticed_it_tells_the_most) {
  EXPECT_EQ(report_on({}).why, "rank 0 waited for rank 1");
  EXPECT_EQ(report_on({}, ErrorCode::kTimeout, 3).why, "timeout in dispatch/rows");
}

TEST(rank_process, an_error_about_no_rank_keeps_its_text) {
  SectionFindings findings(Section::kSelfTest);
  report_error(findings, "shapes", Error(ErrorCode::kSystem, "out of file descriptors"), 0, {});
  const Finding finding = findings.take().at(0);
  EXPECT_EQ(finding.value, "system error");
  EXPECT_EQ(finding.why, "out of file descriptors");
  EXPECT_THAT(finding.cure, HasSubstr("limits"));
}

}  // namespace
}  // namespace tokenyard::cli
