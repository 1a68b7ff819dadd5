// `tokenyard doctor` with a library that has faults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "cli/options.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

struct Visit {
  int exit_code = 0;
  std::string page;
};

// The ranks are forked, and each reads the fault anew. Empty: none.
Visit visit_with_fault(const std::string& fault) {
  unsetenv("TOKENYARD_FAULT");
  if (!fault.empty()) setenv("TOKENYARD_FAULT", fault.c_str(), 1);
  DoctorOptions options;
  options.num_ranks = 3;
  testing::internal::CaptureStdout();
  const int exit_code = run_doctor(options);
  return {.exit_code = exit_code, .page = testing::internal::GetCapturedStdout()};
}

TEST(faulty_library, a_sound_one_has_no_wrong_rows) {
  const Visit visit = visit_with_fault("");
  EXPECT_EQ(visit.exit_code, 0) << visit.page;
  EXPECT_THAT(visit.page, HasSubstr("none wrong"));
}

TEST(faulty_library, wrong_rows_are_noticed_whichever_step_makes_them) {
  for (const char* fault : {"kPushShortRow", "kExpandIgnoresAlignment", "kReduceReversesRanks"}) {
    SCOPED_TRACE(fault);
    const Visit visit = visit_with_fault(fault);
    EXPECT_EQ(visit.exit_code, 1);
    EXPECT_THAT(visit.page, HasSubstr("FAIL  shapes"));
    EXPECT_THAT(visit.page, HasSubstr("rows of dispatch and combine are wrong"));
  }
}

// The library's own words for a fault that does not exist are an abort, on every rank.
TEST(faulty_library, ranks_that_all_crash_are_on_the_page) {
  const Visit visit = visit_with_fault("kNoSuchFault");
  EXPECT_EQ(visit.exit_code, 1);
  EXPECT_THAT(visit.page, HasSubstr("rank 0 (process "));
  EXPECT_THAT(visit.page, HasSubstr("ended without a word"));
  EXPECT_THAT(visit.page, HasSubstr("signal 6 (Aborted)"));
}

}  // namespace
}  // namespace tokenyard::cli
