// TcpRendezvous::secret_from_environment().
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/temporary_directory.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Secret : public testing::Test {
 protected:
  Secret() : path_(directory_.path() + "/secret") { TearDown(); }
  void TearDown() override {
    unsetenv("TOKENYARD_SECRET");
    unsetenv("TOKENYARD_SECRET_FILE");
  }

  void write_file(const std::string& contents, mode_t mode = 0600) {
    std::ofstream(path_) << contents;
    chmod(path_.c_str(), mode);
    setenv("TOKENYARD_SECRET_FILE", path_.c_str(), 1);
  }

  static std::string complaint() {
    const auto error = error_of([] { TcpRendezvous::secret_from_environment(); });
    if (!error) return "nothing";
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    return error->what();
  }

  TemporaryDirectory directory_;
  std::string path_;
};

TEST_F(Secret, may_be_absent) { EXPECT_EQ(TcpRendezvous::secret_from_environment(), ""); }

TEST_F(Secret, is_the_same_from_the_variable_and_from_a_file) {
  setenv("TOKENYARD_SECRET", kTestSecret, 1);
  EXPECT_EQ(TcpRendezvous::secret_from_environment(), kTestSecret);
  unsetenv("TOKENYARD_SECRET");
  for (const char* end : {"", "\n", "\r\n"}) {
    write_file(kTestSecret + std::string(end));
    EXPECT_EQ(TcpRendezvous::secret_from_environment(), kTestSecret);
  }
}

TEST_F(Secret, may_be_stricter_than_0600) {
  write_file(kTestSecret, 0400);
  EXPECT_EQ(TcpRendezvous::secret_from_environment(), kTestSecret);
}

TEST_F(Secret, in_a_file_that_others_may_read_is_refused_with_the_cure) {
  for (const mode_t mode : {0640, 0604, 0620, 0602, 0644, 0610}) {
    write_file(kTestSecret, mode);
    EXPECT_THAT(complaint(), AllOf(HasSubstr("chmod 600 '" + path_ + "'"), Not(HasSubstr(kTestSecret))));
  }
}

TEST_F(Secret, in_a_file_of_another_user_is_refused) {
  write_file(kTestSecret);
  if (chown(path_.c_str(), geteuid() + 1, getegid()) != 0) GTEST_SKIP() << "only root can give files away";
  EXPECT_THAT(complaint(), HasSubstr("belongs to user " + std::to_string(geteuid() + 1)));
}

TEST_F(Secret, in_something_that_is_no_file_is_refused_at_once) {
  setenv("TOKENYARD_SECRET_FILE", directory_.path().c_str(), 1);
  EXPECT_THAT(complaint(), HasSubstr("no regular file"));
  const std::string pipe = directory_.path() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  setenv("TOKENYARD_SECRET_FILE", pipe.c_str(), 1);
  EXPECT_THAT(complaint(), HasSubstr("no regular file"));
  setenv("TOKENYARD_SECRET_FILE", "/no/such/file", 1);
  EXPECT_THAT(complaint(), AllOf(HasSubstr("/no/such/file"), HasSubstr("No such file")));
  setenv("TOKENYARD_SECRET_FILE", "", 1);
  EXPECT_THAT(complaint(), HasSubstr("TOKENYARD_SECRET_FILE=''"));
}

TEST_F(Secret, of_a_bad_length_is_refused_and_not_shown) {
  for (const std::string& secret : {std::string(), std::string("guessed"), std::string(15, 'x'), std::string(4097, 'x')}) {
    setenv("TOKENYARD_SECRET", secret.c_str(), 1);
    EXPECT_THAT(complaint(), AllOf(HasSubstr("has " + std::to_string(secret.size()) + " bytes"), HasSubstr("/dev/urandom"),
                                   Not(HasSubstr("guessed"))));
    unsetenv("TOKENYARD_SECRET");
    write_file(secret);
    EXPECT_THAT(complaint(), HasSubstr("has " + std::to_string(secret.size()) + " bytes"));
    unsetenv("TOKENYARD_SECRET_FILE");
  }
}

TEST_F(Secret, from_both_is_a_contradiction) {
  write_file(kTestSecret);
  setenv("TOKENYARD_SECRET", kTestSecret, 1);
  EXPECT_THAT(complaint(), HasSubstr("TOKENYARD_SECRET and TOKENYARD_SECRET_FILE are both set"));
}

}  // namespace
}  // namespace tokenyard::test
