#include "cli/doctor/merge.hpp"

#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

Findings memory_of(const std::string& value) {
  SectionFindings findings(Section::kMemory);
  findings.ok("memory", value);
  return findings.take();
}

Findings late(const std::string& why) {
  SectionFindings findings(Section::kSelfTest);
  findings.failure("shapes", "rank 2 is stopped", why, "kill -CONT");
  return findings.take();
}

TEST(merge, what_is_well_everywhere_is_one_line_with_the_first_value) {
  const Findings merged = merge({memory_of("1 GiB"), memory_of("2 GiB"), {}});
  ASSERT_EQ(merged.size(), 1u);
  EXPECT_EQ(merged[0].value, "1 GiB");
  EXPECT_EQ(merged[0].ranks, "");
}

TEST(merge, what_is_not_well_names_its_ranks_and_keeps_the_best_reason) {
  const Findings merged = merge({late("heard of it"), late("waited 4000 ms for rank 2"), {}, late("heard")});
  ASSERT_EQ(merged.size(), 1u);
  EXPECT_EQ(merged[0].ranks, "0-1, 3");
  EXPECT_EQ(merged[0].why, "waited 4000 ms for rank 2");
}

TEST(merge, different_verdicts_stand_together_and_say_whose_they_are) {
  SectionFindings limited(Section::kMemory);
  limited.warning("memory", "0 GiB", "none", "buy some");
  const Findings merged = merge({memory_of("1 GiB"), limited.take(), memory_of("1 GiB")});
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0].ranks, "0, 2");
  EXPECT_EQ(merged[1].verdict, Verdict::kWarning);
  EXPECT_EQ(merged[1].ranks, "1");
}

TEST(merge, sections_come_in_the_order_of_the_page) {
  Findings first = late("why");
  append(first, memory_of("1 GiB"));
  const Findings merged = merge({first});
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0].name, "memory");
  EXPECT_EQ(merged[1].ranks, "") << "one rank speaks for all there are";
}

}  // namespace
}  // namespace tokenyard::cli
