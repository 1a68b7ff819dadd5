#include "cli/doctor/finding.hpp"

#include <gtest/gtest.h>

#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

TEST(finding, what_is_written_is_read_again) {
  SectionFindings gpus(Section::kGpus);
  gpus.ok("driver", "580", "not used");
  gpus.not_applicable("peer access", "one GPU");
  Findings findings = gpus.take();
  SectionFindings test(Section::kSelfTest);
  test.warning("signals", "slow \"here\"\n", "why", "cure");
  test.failure("shapes", "wrong", "why not", "another");
  append(findings, test.take());
  findings.back().ranks = "1, 3-4";

  const Findings again = from_text(to_text(findings));
  ASSERT_EQ(again.size(), findings.size());
  for (std::size_t i = 0; i < findings.size(); ++i) {
    EXPECT_EQ(again[i].section, findings[i].section);
    EXPECT_EQ(again[i].name, findings[i].name);
    EXPECT_EQ(again[i].value, findings[i].value);
    EXPECT_EQ(again[i].verdict, findings[i].verdict);
    EXPECT_EQ(again[i].why, findings[i].why);
    EXPECT_EQ(again[i].cure, findings[i].cure);
    EXPECT_EQ(again[i].ranks, findings[i].ranks);
  }
  EXPECT_EQ(count(again, Verdict::kFailure), 1);
}

TEST(finding, what_somebody_else_wrote_is_refused) {
  EXPECT_THROW(from_text(""), Error);
  EXPECT_THROW(from_text("{}"), Error);
  EXPECT_THROW(from_text(R"({"findings": [{"section": "weather", "verdict": "ok"}]})"), Error);
}

}  // namespace
}  // namespace tokenyard::cli
