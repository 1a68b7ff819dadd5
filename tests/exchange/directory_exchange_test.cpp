// Ranks that meet in a directory, or say why they cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "exchange/job_file.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/support/exchange_ranks.hpp"
#include "tests/support/temporary_directory.hpp"

namespace tokenyard::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class DirectoryExchange : public testing::Test {
 protected:
  std::shared_ptr<Exchange> make(int rank, int num_ranks, std::chrono::milliseconds timeout = kAmple,
                                 const std::string& job = "job") const {
    return make_directory_exchange(directory_.path(), rank, num_ranks, job, timeout);
  }

  std::string place() const { return directory_.path() + "/tokenyard-job"; }

  void put(const std::string& name, const std::string& contents) const {
    fs::create_directory(place());
    chmod(place().c_str(), 0700);
    std::ofstream(place() + "/" + name) << contents;
  }

  void put(const std::string& name, const JobFile& file) const {
    const Bytes bytes = encode_job_file(file);
    put(name, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }

  TemporaryDirectory directory_;
};

TEST_F(DirectoryExchange, leaves_nothing_behind) {
  for (int i = 0; i < 5; ++i) {
    run_ranks(4, [&](int rank) {
      const auto exchange = make(rank, 4);
      for (int round = 0; round < 5; ++round) exchange->all_gather(std::vector<std::byte>(100, std::byte{1}), kAmple);
    });
    EXPECT_TRUE(directory_.is_empty());
  }
}

TEST_F(DirectoryExchange, one_name_serves_one_exchange_after_another) {
  // No rank waits for the others outside of the Exchange: some leave while others have yet to read what they put down.
  run_ranks(3, [&](int rank) {
    for (int i = 0; i < 30; ++i) {
      const auto exchange = make(rank, 3);
      const auto messages = exchange->all_gather(to_bytes(std::to_string(100 * i + rank)), kAmple);
      for (int source = 0; source < 3; ++source) ASSERT_EQ(messages[source], to_bytes(std::to_string(100 * i + source)));
    }
  });
  EXPECT_TRUE(directory_.is_empty());
}

TEST_F(DirectoryExchange, jobs_of_several_names_share_a_directory) {
  run_ranks(6, [&](int i) {
    const auto exchange = make(i % 3, 3, kAmple, i < 3 ? "one" : "another");
    for (int round = 0; round < 20; ++round) {
      const auto messages = exchange->all_gather(to_bytes(i < 3 ? "one" : "another"), kAmple);
      for (const auto& message : messages) ASSERT_EQ(message, to_bytes(i < 3 ? "one" : "another"));
    }
  });
  EXPECT_TRUE(directory_.is_empty());
}

TEST_F(DirectoryExchange, many_ranks_meet) {
  run_ranks(24, [&](int rank) {
    const auto exchange = make(rank, 24);
    for (int round = 0; round < 3; ++round) {
      const auto messages = exchange->all_gather(to_bytes(std::to_string(rank)), kAmple);
      for (int source = 0; source < 24; ++source) ASSERT_EQ(messages[source], to_bytes(std::to_string(source)));
    }
  });
  EXPECT_TRUE(directory_.is_empty());
}

TEST_F(DirectoryExchange, holds_files_of_the_round_alone_that_nobody_else_can_read) {
  const auto exchanges = make_directory_ranks(directory_.path(), 3);
  for (int round = 0; round < 10; ++round) run_ranks(3, [&](int rank) { exchanges[rank]->barrier(kAmple); });
  EXPECT_EQ(fs::status(place()).permissions(), fs::perms::owner_all);
  int num_files = 0;
  for (const auto& entry : fs::directory_iterator(place())) {
    ++num_files;
    EXPECT_EQ(entry.status().permissions(), fs::perms::owner_read | fs::perms::owner_write) << entry.path();
  }
  EXPECT_EQ(num_files, 3 + 3) << "a claim and the last round's bytes per rank";
}

TEST_F(DirectoryExchange, missing_ranks_are_named_on_every_rank_that_came_and_nothing_stays) {
  const std::vector<int> came{0, 2, 5};
  const auto errors = errors_of_ranks(3, [&](int i) { make(came[i], 7, 800ms); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kTimeout);
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_EQ(error->failure().phase, Phase::kRendezvous);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("800 ms"), HasSubstr("ranks 1, 3, 4, 6 of 7"), HasSubstr(place())));
  }
  EXPECT_TRUE(directory_.is_empty());
}

TEST_F(DirectoryExchange, a_duplicate_rank_is_told_and_ends_the_rendezvous_for_all) {
  const auto errors = errors_of_ranks(3, [&](int i) {
    while (i == 2 && !(fs::exists(place() + "/claim.0") && fs::exists(place() + "/claim.1"))) std::this_thread::sleep_for(1ms);
    make(i == 2 ? 1 : i, 3);
  });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("rank 1 is taken already, by process " + std::to_string(getpid())),
                                     HasSubstr("rm -r '" + place() + "'")));
  }
  EXPECT_TRUE(directory_.is_empty());
}

TEST_F(DirectoryExchange, a_duplicate_cannot_disturb_ranks_that_have_met) {
  const auto exchanges = make_directory_ranks(directory_.path(), 3);
  const auto error = error_of([&] { make(1, 3); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  run_ranks(3, [&](int rank) { exchanges[rank]->barrier(kAmple); });
}

TEST_F(DirectoryExchange, another_number_of_ranks_ends_it_for_all) {
  for (const int larger : {0, 1}) {
    const auto errors = errors_of_ranks(2, [&](int rank) { make(rank, rank == larger ? 8 : 3); });
    for (const auto& error : errors) {
      ASSERT_TRUE(error);
      EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
      EXPECT_THAT(error->what(), AllOf(HasSubstr("started for"), HasSubstr("8"), HasSubstr("3")));
      EXPECT_STREQ(error->what(), errors[0]->what());
    }
    EXPECT_TRUE(directory_.is_empty());
  }
}

TEST_F(DirectoryExchange, a_rank_that_this_one_does_not_know_of_ends_it_for_all) {
  const auto errors = errors_of_ranks(2, [&](int i) { make(i == 0 ? 0 : 5, i == 0 ? 3 : 8); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  }
}

TEST_F(DirectoryExchange, another_version_ends_it) {
  put("claim.1", JobFile{.version = kWireVersion + 3, .kind = JobFileKind::kClaim, .rank = 1, .num_ranks = 2, .body = {}});
  const auto error = error_of([&] { make(0, 2); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_EQ(error->failure().culprit, 1);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("claim.1"), HasSubstr("version " + std::to_string(kWireVersion + 3)),
                                   HasSubstr("rank 0 speaks version " + std::to_string(kWireVersion))));
}

TEST_F(DirectoryExchange, truncated_and_foreign_files_are_told_by_name) {
  const Bytes claim = encode_job_file({.kind = JobFileKind::kClaim, .rank = 1, .num_ranks = 2, .body = to_bytes("who")});
  const std::string whole(reinterpret_cast<const char*>(claim.data()), claim.size());
  const JobFile misplaced{.kind = JobFileKind::kLeft, .rank = 1, .num_ranks = 2, .body = {}};
  const Bytes wrong = encode_job_file(misplaced);
  const std::pair<std::string, const char*> cases[] = {
      {"", "no file of Tokenyard"},
      {"a list of groceries", "no file of Tokenyard"},
      {whole.substr(0, 30), "truncated"},
      {whole.substr(0, whole.size() - 1), "damaged"},
      {std::string(reinterpret_cast<const char*>(wrong.data()), wrong.size()), "belongs to another place"},
      {std::string(2 << 20, 'x'), "has 2097152 bytes"}};
  for (const auto& [contents, expected] : cases) {
    put("claim.1", contents);
    const auto error = error_of([&] { make(0, 2); });
    ASSERT_TRUE(error) << expected;
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_EQ(error->failure().culprit, 1);
    EXPECT_THAT(error->what(), AllOf(HasSubstr(place() + "/claim.1"), HasSubstr(expected)));
    fs::remove_all(place());
  }
}

TEST_F(DirectoryExchange, something_that_is_no_file_is_told_and_waited_for_by_nobody) {
  put("other", "");
  ASSERT_EQ(mkfifo((place() + "/claim.1").c_str(), 0600), 0);
  auto error = error_of([&] { make(0, 2); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("no regular file"));
  fs::remove_all(place());
  put("other", "");
  fs::create_symlink("/etc/passwd", place() + "/claim.1");
  error = error_of([&] { make(0, 2); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
}

TEST_F(DirectoryExchange, a_file_damaged_in_a_round_ends_it_for_all) {
  const auto exchanges = make_directory_ranks(directory_.path(), 3);
  const auto errors = errors_of_ranks(3, [&](int rank) {
    if (rank == 2) {
      put("round.1.2", "not what rank 2 would say");
      return;
    }
    exchanges[rank]->barrier(kAmple);
  });
  for (const int rank : {0, 1}) {
    ASSERT_TRUE(errors[rank]);
    EXPECT_EQ(errors[rank]->code(), ErrorCode::kDisagreement);
    EXPECT_EQ(errors[rank]->failure().culprit, 2);
    EXPECT_THAT(errors[rank]->what(), AllOf(HasSubstr("round 1"), HasSubstr("round.1.2")));
  }
}

TEST_F(DirectoryExchange, files_of_another_exchange_are_not_taken_for_its_own) {
  const auto exchanges = make_directory_ranks(directory_.path(), 2);
  put("round.1.1", JobFile{.kind = JobFileKind::kRound, .rank = 1, .num_ranks = 2, .round = 1, .session = 4711, .body = {}});
  const auto error = error_of([&] { exchanges[0]->barrier(kAmple); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_THAT(error->what(), HasSubstr("another Exchange"));
}

TEST_F(DirectoryExchange, files_of_others_stay_and_are_reported) {
  testing::internal::CaptureStderr();
  {
    const auto exchanges = make_directory_ranks(directory_.path(), 2);
    put("notes.txt", "mine");
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("files of others"));
  EXPECT_FALSE(fs::exists(place())) << "the name is free again";
  int num_notes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory_.path()))
    num_notes += entry.path().filename() == "notes.txt";
  EXPECT_EQ(num_notes, 1);
}

// A child process that takes part as `rank` of 3, and then stays until it is killed.
pid_t fork_staying_rank(const std::string& path, int rank) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  try {
    const auto exchange = make_directory_exchange(path, rank, 3, "job", 20s);
    std::this_thread::sleep_for(60s);
  } catch (const std::exception&) {
  }
  _exit(1);
}

void kill_and_reap(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

TEST_F(DirectoryExchange, a_killed_rank_is_named_at_the_deadline) {
  const pid_t child = fork_staying_rank(directory_.path(), 2);
  const auto errors = errors_of_ranks(2, [&](int rank) {
    const auto exchange = make(rank, 3);
    if (rank == 0) kill_and_reap(child);
    exchange->barrier(500ms);
  });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kTimeout);
    EXPECT_EQ(error->failure().culprit, 2);
  }
}

TEST_F(DirectoryExchange, what_a_killed_job_left_disturbs_no_other_name_and_is_told_to_its_own) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < 3; ++rank) children.push_back(fork_staying_rank(directory_.path(), rank));
  while (!fs::exists(place() + "/round.0.0")) std::this_thread::sleep_for(1ms);
  for (const pid_t child : children) kill_and_reap(child);

  run_ranks(3, [&](int rank) { make(rank, 3, kAmple, "job-2")->barrier(kAmple); });
  const auto errors = errors_of_ranks(3, [&](int rank) { make(rank, 3, 5s); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), HasSubstr("rm -r '" + place() + "'"));
  }
  fs::remove_all(place());
  run_ranks(3, [&](int rank) { make(rank, 3)->barrier(kAmple); });
}

TEST_F(DirectoryExchange, what_a_job_left_that_was_killed_before_it_met_does_not_pass_for_ranks) {
  const pid_t child = fork_staying_rank(directory_.path(), 1);
  while (!fs::exists(place() + "/claim.1")) std::this_thread::sleep_for(1ms);
  kill_and_reap(child);
  const auto errors = errors_of_ranks(2, [&](int i) { make(i == 0 ? 0 : 2, 3, 1s); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kTimeout);
    EXPECT_EQ(error->failure().culprit, 1);
  }
}

TEST_F(DirectoryExchange, a_name_still_in_use_is_waited_for_and_told) {
  auto exchanges = make_directory_ranks(directory_.path(), 3);
  exchanges[0].reset();
  const auto error = error_of([&] { make(0, 3, 200ms); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kTimeout);
  EXPECT_EQ(error->failure().culprit, 1);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("200 ms for ranks 1, 2 to leave"), HasSubstr("rm -r")));
}

TEST_F(DirectoryExchange, a_directory_that_others_may_enter_is_refused) {
  fs::create_directory(place());
  chmod(place().c_str(), 0770);
  const auto error = error_of([&] { make(0, 1); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), HasSubstr("chmod 700 '" + place() + "'"));
}

TEST_F(DirectoryExchange, a_directory_of_another_user_is_refused) {
  fs::create_directory(place());
  chmod(place().c_str(), 0700);
  if (chown(place().c_str(), geteuid() + 1, getegid()) != 0) GTEST_SKIP() << "only root can give directories away";
  const auto error = error_of([&] { make(0, 1); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), HasSubstr("belongs to user " + std::to_string(geteuid() + 1)));
}

TEST_F(DirectoryExchange, a_link_in_its_place_is_refused) {
  const TemporaryDirectory elsewhere;
  fs::create_symlink(elsewhere.path(), place());
  const auto error = error_of([&] { make(0, 1); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_TRUE(elsewhere.is_empty());
}

TEST_F(DirectoryExchange, an_impossible_request_is_refused) {
  const auto complaint = [](auto body) {
    const auto error = error_of(body);
    if (!error) return std::string("nothing");
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    return std::string(error->what());
  };
  EXPECT_THAT(complaint([] { make_directory_exchange("/no/such/directory", 0, 1, "job", 1s); }),
              AllOf(HasSubstr("'/no/such/directory'"), HasSubstr("No such file")));
  EXPECT_THAT(complaint([] { make_directory_exchange("/etc/passwd", 0, 1, "job", 1s); }), HasSubstr("Not a directory"));
  for (const std::string& job :
       {std::string(), std::string("a/b"), std::string("a b"), std::string(101, 'x'), std::string("a\nb")}) {
    EXPECT_THAT(complaint([&] { make(0, 1, 1s, job); }), HasSubstr("job name"));
  }
  EXPECT_THAT(complaint([&] { make(3, 3); }), HasSubstr("rank 3"));
  EXPECT_THAT(complaint([&] { make(0, 0); }), HasSubstr("0 ranks"));
  EXPECT_TRUE(directory_.is_empty());
}

}  // namespace
}  // namespace tokenyard::test
