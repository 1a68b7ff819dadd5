#include "cli/doctor/page.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

Findings some_findings() {
  SectionFindings memory(Section::kMemory);
  memory.ok("memory", "2 GiB", "enough");
  memory.not_applicable("memory limit", "none");
  memory.failure("open files", "16",
                 std::string("few words and ") + std::string(200, 'x') + " and more of them, so that lines must be broken",
                 "ulimit -n 1024");
  Findings findings = memory.take();
  SectionFindings test(Section::kSelfTest);
  test.warning("signals", "slow", "busy", "wait");
  append(findings, test.take());
  findings.back().ranks = "1-2";
  return findings;
}

TEST(page, lines_are_aligned_and_cures_stand_beneath) {
  const std::string page = to_page(some_findings(), false, 100);
  EXPECT_THAT(page, HasSubstr("memory         ok    memory        2 GiB; enough\n"
                              "               -     memory limit  none\n"
                              "               FAIL  open files    16: few words and\n"));
  EXPECT_THAT(page, HasSubstr("\n                                => ulimit -n 1024\n"
                              "self-test      WARN  signals       slow: busy [told by ranks 1-2]\n"
                              "                                => wait\n"));
}

TEST(page, only_words_that_are_longer_than_a_line_exceed_the_width) {
  std::istringstream page(to_page(some_findings(), false, 100));
  for (std::string line; std::getline(page, line);) {
    if (line.find("xxx") != std::string::npos) continue;
    EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(page, colours_are_added_on_request_only) {
  EXPECT_THAT(to_page(some_findings(), false, 100), Not(HasSubstr("\x1b[")));
  EXPECT_THAT(to_page(some_findings(), true, 100), HasSubstr("\x1b[1;31mFAIL\x1b[0m  open files"));
}

TEST(page, the_conclusion_names_what_is_not_well) {
  EXPECT_EQ(to_conclusion(some_findings(), false), "FAILED: 1 failure (open files), 1 warning (signals)\n");
  EXPECT_EQ(to_conclusion({}, false), "OK: nothing to complain about\n");
  EXPECT_EQ(to_conclusion({some_findings().back()}, false), "OK, with 1 warning (signals)\n");
}

TEST(page, complaints_leave_out_what_is_well) {
  const std::string complaints = to_complaints(some_findings(), 3);
  EXPECT_THAT(complaints, HasSubstr("tokenyard [rank 3]: warning: signals: slow: busy [told by ranks 1-2]\n    => wait\n"));
  EXPECT_THAT(complaints, Not(HasSubstr("enough")));
}

}  // namespace
}  // namespace tokenyard::cli
