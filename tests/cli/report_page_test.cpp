#include "cli/report_page.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(report_page, holds_the_sentence_and_the_report_and_loads_nothing) {
  const std::string page = report_page("Rank 2 is late", R"({"groups":[]})");
  EXPECT_THAT(page, HasSubstr(">Rank 2 is late</h1>"));
  EXPECT_THAT(page, HasSubstr(R"(<script type="application/json" id="report">{"groups":[]}</script>)"));
  EXPECT_THAT(page, Not(HasSubstr("@SENTENCE@")));
  EXPECT_THAT(page, Not(HasSubstr("@REPORT@")));
  for (const char* loader : {"http://", "https://", "src=", "@import", "url(", "<link"})
    EXPECT_THAT(page, Not(HasSubstr(loader)));
}

TEST(report_page, text_from_outside_stays_text) {
  const std::string page = report_page("a <b> & c", R"({"host":"</script><script>alert(1)</script>"})");
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; c"));
  EXPECT_THAT(page, Not(HasSubstr("alert(1)</script>")));
}

}  // namespace
}  // namespace tokenyard::cli
