#include "exchange/job_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/exchange_ranks.hpp"

namespace tokenyard {
namespace {

using test::to_bytes;
using testing::HasSubstr;

const JobFile kFile{
    .kind = JobFileKind::kRound, .rank = 3, .num_ranks = 8, .round = 1ull << 40, .session = 77, .body = to_bytes("abc")};

std::string problem_with(std::span<const std::byte> bytes) {
  std::string problem;
  EXPECT_FALSE(decode_job_file(bytes, problem));
  return problem;
}

TEST(job_file, survives_the_way) {
  std::string problem;
  const auto file = decode_job_file(encode_job_file(kFile), problem);
  ASSERT_TRUE(file) << problem;
  EXPECT_EQ(file->version, kWireVersion);
  EXPECT_EQ(file->kind, JobFileKind::kRound);
  EXPECT_EQ(file->rank, 3u);
  EXPECT_EQ(file->num_ranks, 8u);
  EXPECT_EQ(file->round, 1ull << 40);
  EXPECT_EQ(file->session, 77u);
  EXPECT_EQ(file->body, to_bytes("abc"));
}

TEST(job_file, no_cut_survives) {
  const Bytes bytes = encode_job_file(kFile);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(problem_with(std::span(bytes).first(length)).empty());
  EXPECT_THAT(problem_with(std::span(bytes).first(20)), HasSubstr("truncated"));
  EXPECT_THAT(problem_with(std::span(bytes).first(bytes.size() - 1)), HasSubstr("announces 3 bytes and holds 2"));
}

TEST(job_file, what_others_wrote_is_told) {
  EXPECT_THAT(problem_with(to_bytes("#!/bin/sh\necho a foreign file that is longer than a header\n")),
              HasSubstr("no file of Tokenyard"));
  Bytes longer = encode_job_file(kFile);
  longer.push_back(std::byte{0});
  EXPECT_THAT(problem_with(longer), HasSubstr("damaged"));
}

TEST(job_file, a_later_version_is_read_as_far_as_it_is_known) {
  JobFile later = kFile;
  later.version = kWireVersion + 1;
  Bytes bytes = encode_job_file(later);
  bytes.resize(bytes.size() + 100);
  std::string problem;
  const auto file = decode_job_file(bytes, problem);
  ASSERT_TRUE(file) << problem;
  EXPECT_EQ(file->version, kWireVersion + 1);
  EXPECT_EQ(file->rank, 3u);
}

TEST(job_file, names_tell_claims_apart) {
  EXPECT_EQ(claimed_rank(claim_name(17)), 17);
  for (const char* name :
       {"claim.", "claim.-1", "claim.1x", "claim. 1", "claim.99999999999", "left.1", "round.1.2", "verdict"}) {
    EXPECT_FALSE(claimed_rank(name)) << name;
  }
  for (const std::string& name :
       {claim_name(1), round_name(2, 3), left_name(4), std::string(kVerdictName), temporary_name(5)}) {
    EXPECT_TRUE(is_job_file_name(name)) << name;
  }
  for (const char* name : {".", "..", ".nfs0001", "notes.txt", "verdict.old"}) EXPECT_FALSE(is_job_file_name(name)) << name;
}

}  // namespace
}  // namespace tokenyard
