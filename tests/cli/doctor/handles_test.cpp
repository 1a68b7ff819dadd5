#include "cli/doctor/handles.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

constexpr HandleCapabilities kAll{
    .has_virtual_memory = true, .has_descriptors = true, .has_fabric_handles = true, .has_imex_channel = true, .has_ipc = true};

Finding finding_of(const std::vector<HandleOffers>& by_gpu) {
  SectionFindings findings(Section::kGpus);
  report_handles(findings, by_gpu);
  const Findings taken = findings.take();
  return taken.size() == 1 ? taken[0] : Finding{};
}

TEST(handles, that_all_gpus_offer_are_listed) {
  const Finding finding = finding_of({offers_of(kAll), offers_of(kAll)});
  EXPECT_EQ(finding.verdict, Verdict::kOk);
  EXPECT_EQ(finding.value, "descriptor, fabric, ipc");
  EXPECT_EQ(finding.why, "");
}

TEST(handles, that_are_missing_come_with_gpu_and_reason) {
  HandleCapabilities without_channel = kAll;
  without_channel.has_imex_channel = false;
  EXPECT_THAT(finding_of({offers_of(without_channel)}).why, HasSubstr("no fabric: no IMEX channel"));
  HandleCapabilities without_ipc = kAll;
  without_ipc.has_ipc = false;
  const Finding finding = finding_of({offers_of(kAll), offers_of(without_ipc), offers_of(without_ipc)});
  EXPECT_EQ(finding.verdict, Verdict::kOk);
  EXPECT_EQ(finding.value, "descriptor, fabric");
  EXPECT_THAT(finding.why, HasSubstr("no ipc on GPU 1-2: "));
}

TEST(handles, a_gpu_without_any_is_a_warning_with_a_cure) {
  const Finding finding = finding_of({offers_of(kAll), offers_of({})});
  EXPECT_EQ(finding.verdict, Verdict::kWarning);
  EXPECT_THAT(finding.value, HasSubstr("no descriptor on GPU 1: "));
  EXPECT_THAT(finding.cure, HasSubstr("threads of one process"));
}

}  // namespace
}  // namespace tokenyard::cli
